"""`launcher connect`, `cost` and `ps --watch`, as they are typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from launcher.cli.running.export import ExportFormat
from launcher.deployment.install.export import Format
from launcher.gateway.running_address import written_down
from tests.cli.shell import launcher
from tests.gateway.served import Gateway, Kind, serving


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with serving(tmp_path, {"a": Kind(), "b": Kind()}) as served:
        yield served


def typed(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return launcher(*words, timeout_s=120, HOME=str(home), LAUNCHER_HOME=str(home / "launcher"))


def test_settings_are_printed_then_written_then_tried(tmp_path: Path, gateway: Gateway) -> None:
    words = ("connect", "claude-code", "--url", gateway.url, "--model", "b")
    shown = typed(tmp_path, *words)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["env"]["ANTHROPIC_MODEL"] == "b"
    file = tmp_path / ".claude" / "settings.json"
    assert not file.exists()
    file.parent.mkdir()
    file.write_text('{"theme": "dark" /* mine */}')
    written = typed(tmp_path, *words, "-y")
    assert written.returncode == 0, written.stderr
    assert '"theme": "dark" /* mine */' in file.read_text()
    assert [backup.read_text() for backup in file.parent.glob("*.bak")] == ['{"theme": "dark" /* mine */}']
    tried = typed(tmp_path, "connect", "opencode", "--url", f"{gateway.url}/v1", "--test", "--json")
    assert tried.returncode == 0, tried.stderr
    assert json.loads(tried.stdout)["answer"].startswith("Hello there")


def test_what_cannot_be_connected_is_said(tmp_path: Path) -> None:
    nobody = typed(tmp_path, "connect", "zed", "--url", "http://127.0.0.1:9")
    assert nobody.returncode == 6
    assert "no gateway answers at http://127.0.0.1:9" in nobody.stderr
    nowhere = typed(tmp_path, "connect", "librechat", "--url", "http://127.0.0.1:9", "--model", "a", "-y")
    assert nowhere.returncode == 2
    assert "has no fixed place" in nowhere.stderr


def test_the_gateway_that_runs_is_found_wherever_it_answers(tmp_path: Path, gateway: Gateway) -> None:
    words = ("connect", "curl", "--model", "a")
    none = typed(tmp_path, *words)
    assert none.returncode == 0
    assert "http://127.0.0.1:8080/v1" in none.stdout
    assert (
        "note: no gateway answers at http://127.0.0.1:8080 yet; this starts it: launcher serve" in none.stderr
    )
    folder = tmp_path / "launcher" / "state" / "gateway"
    with written_down(folder, gateway.url):
        found = typed(tmp_path, *words)
        assert f"{gateway.url}/v1" in found.stdout
        assert "no gateway answers" not in found.stderr
        left = (folder / "address.json").read_text()
    # one that was killed leaves its file
    gone = left.replace(f'"pid": {os.getpid()}', '"pid": 4194304')
    (folder / "address.json").write_text(gone)
    assert "http://127.0.0.1:8080/v1" in typed(tmp_path, *words).stdout


def test_a_cost_names_the_source_of_each_number(tmp_path: Path) -> None:
    words = ("cost", "kimi-k2.5", "--machine", "8xh200-141g", "--offline", "--json")
    done = typed(tmp_path, *words, "--watts", "5000", "--hardware", "300000")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    for name in ("prefill", "decode", "watts", "kwh_price", "hardware", "years", "prices"):
        assert document["inputs"][name]["source"], name
    assert document["inputs"]["prices"]["answer"] == 3.0
    assert "forecast" in document["inputs"]["decode"]["source"]
    assert document["costs"]["api"] > 0
    unknown = typed(tmp_path, "cost", "smollm2-135m", "--machine", "laptop-16g", "--offline")
    assert unknown.returncode == 4
    assert "no API is known that answers as smollm2-135m" in unknown.stderr


def test_ps_goes_on_until_it_is_interrupted(tmp_path: Path) -> None:
    env = {**os.environ, "LAUNCHER_HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "launcher", "ps", "--watch", "--json"],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        seen += line.startswith("{")
        if seen == 2:
            break
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    process.stdout.close()
    assert process.wait(60) == 0


def test_litellms_configuration_has_every_model_and_no_key(tmp_path: Path, gateway: Gateway) -> None:
    nobody = typed(tmp_path, "export", "litellm")
    assert nobody.returncode == 6
    assert "no gateway answers" in nobody.stderr
    with written_down(tmp_path / "launcher" / "state" / "gateway", gateway.url):
        shown = typed(tmp_path, "export", "litellm")
        with_name = typed(tmp_path, "export", "litellm", "a")
    assert shown.returncode == 0, shown.stderr
    written = yaml.safe_load(shown.stdout)
    assert {each["model_name"] for each in written["model_list"]} == {"a", "b"}
    params = written["model_list"][0]["litellm_params"]
    assert (params["api_base"], params["api_key"]) == (f"{gateway.url}/v1", "os.environ/LAUNCHER_API_KEY")
    assert with_name.returncode == 2
    assert "all models" in with_name.stderr


def test_every_format_of_a_server_can_be_typed() -> None:
    assert {*map(str, ExportFormat)} == {*map(str, Format), "litellm"}
