"""Figures for Prometheus, and the dashboard that reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.served import Gateway, Kind, fetch, serving, until
from tests.gateway.test_serving import chat

# https://prometheus.io/docs/instrumenting/exposition_formats/
SAMPLE = re.compile(r'([a-z0-9_]+)(\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? (\S+)')


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with serving(tmp_path, {"a": Kind(), "quote": Kind()}, names={"quote": 'qu"o\\te'}) as served:
        yield served


def test_the_figures_are_in_prometheus_form_and_the_dashboard_asks_for_no_others(gateway: Gateway) -> None:
    chat(gateway, "a")
    until(lambda: gateway.app.counters.by_model["a"].requests == 1)
    text = fetch(f"{gateway.url}/metrics")[1].decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    names = set()
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample is not None, line
        float(sample[3])
        names.add(sample[1])
        family = re.sub(r"_(bucket|sum|count)$", "", sample[1])
        assert kinds[sample[1] if sample[1] in kinds else family] in {"counter", "gauge", "histogram"}
    assert 'launcher_time_to_first_token_seconds_bucket{model="a",le="+Inf"} 1' in text
    dashboard = json.loads(fetch(f"{gateway.url}/gateway/grafana.json")[1])
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"launcher_[a-z_0-9]+", target["expr"])
    }
    assert asked
    assert asked <= names


def test_only_what_generates_is_listed(gateway: Gateway) -> None:
    fetch(f"{gateway.url}/upstream/a/props")
    chat(gateway, "a")
    until(lambda: len(gateway.app.counters.answered) == 1)
    assert gateway.app.counters.answered[0].path == "/v1/chat/completions"
