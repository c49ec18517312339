"""Answers here against the API's."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from launcher.gateway.api_offers import OFFERS, config_lines
from launcher.gateway.config import read_gateway_config
from launcher.gateway.cost import CostInputs, Figure, compare
from launcher.gateway.watts import read_watts
from launcher.system.settings import Settings


def given(
    *, watts: float | None = 400.0, hardware: float | None = 7200.0, decode: float = 10.0
) -> CostInputs:
    def figure(value: float) -> Figure:
        return Figure(value=value, source="given")

    return CostInputs(
        prompt_tokens=1000, cached_tokens=4000, answer_tokens=500, prefill=figure(100.0), decode=figure(decode),
        watts=None if watts is None else figure(watts), kwh_price=figure(0.30),
        hardware=None if hardware is None else figure(hardware), years=figure(3), prices=OFFERS["kimi-k2.5"].prices,
    )  # fmt: skip


def test_the_figures_by_hand() -> None:
    costs = compare(given(watts=36.0))
    assert costs.seconds == 1000 / 100 + 500 / 10
    assert costs.electricity == pytest.approx(60 * 36 / 3.6e6 * 0.30)
    assert costs.api == pytest.approx((1000 * 0.60 + 4000 * 0.10 + 500 * 3.00) / 1e6)
    assert costs.hardware_month == 200.0
    assert costs.most_requests == 43200
    # 200 dollars a month for what is saved by each request: more than it can answer
    assert costs.break_even is None
    assert "the API" in costs.verdict


def test_it_breaks_even_where_what_is_saved_pays_for_the_hardware() -> None:
    costs = compare(given(watts=36.0, hardware=360.0))
    assert costs.electricity is not None
    assert costs.break_even == pytest.approx(10.0 / (costs.api - costs.electricity))
    assert "here from" in costs.verdict


def test_what_is_not_known_is_said() -> None:
    assert compare(given(watts=None)).verdict == "not known without watts: --watts N"
    assert compare(given(hardware=None, watts=1.0)).break_even == 0
    assert "electricity alone" in compare(given(watts=5000.0)).verdict


def test_the_shipped_examples_are_settings_that_are_read(tmp_path: Path) -> None:
    text = "".join(config_lines(name, offer, 20.0) for name, offer in OFFERS.items())
    tomllib.loads(text)
    file = tmp_path / "config.toml"
    file.write_text(text)
    config = read_gateway_config(
        Settings(cache_dir=tmp_path, state_dir=tmp_path, config_file=file, engine=None)
    )
    for name, offer in OFFERS.items():
        fallback = config.models[name].fallback
        assert fallback is not None
        assert (fallback.url, fallback.prices, fallback.style) == (offer.url, offer.prices, offer.style)


def test_limits_of_packages_are_added_up_and_their_parts_are_not(tmp_path: Path) -> None:
    for name, watts in (("intel-rapl:0", 120), ("intel-rapl:1", 90), ("intel-rapl:0:0", 50)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "constraint_0_power_limit_uw").write_text(f"{watts * 10**6}\n")
    (tmp_path / "intel-rapl:2").mkdir()
    (tmp_path / "intel-rapl:2" / "constraint_0_power_limit_uw").write_text("many")
    found = read_watts(tmp_path)
    assert found is not None
    assert "210 W limit of processors, RAPL" in found.source
