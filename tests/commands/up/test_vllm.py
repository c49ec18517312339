"""`up --engine vllm`: a stand-in that serves as vLLM does, and logs of the real one."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from launcher.commands.here import Here, here_with
from launcher.commands.planned import PlanRequest
from launcher.commands.up import vllm as up
from launcher.commands.up.request import UpRequest
from launcher.deployment.record import Phase
from launcher.deployment.records import find_record
from launcher.deployment.supervisor.ready import LoadFailed
from launcher.deployment.takedown import take_down
from launcher.engine.log.cause import CauseKind
from launcher.errors import NotFound, UsageError
from tests.plan.shapes import machine
from tests.tiny_safetensors import write_tiny_llama

# Answers only who knows the key, as vLLM does, and nothing of llama-server's own API.
SERVER = """#!{python}
import http.server, json, os, sys
flags = dict(zip(sys.argv, sys.argv[1:]))
if os.environ.get("END"):
    sys.exit("(APIServer pid=1) start\\n(EngineCore pid=2) ERROR 12-01 [core.py:1] " + os.environ["END"])
import subprocess
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404); self.end_headers()
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.headers.get("Authorization") == "Bearer " + os.environ.get("VLLM_API_KEY", "")
        known = known or "VLLM_API_KEY" not in os.environ
        good = self.path == "/v1/completions" and asked["model"] == flags["--served-model-name"] and known
        self.send_response(200 if good else 401); self.end_headers()
        if good:
            event = json.dumps({{"choices": [{{"text": "x"}}], "space": os.environ["VLLM_CPU_KVCACHE_SPACE"]}})
            self.wfile.write(f"data: {{event}}\\n\\ndata: [DONE]\\n\\n".encode())
    def log_message(self, *args): pass
http.server.HTTPServer((flags["--host"], int(flags["--port"])), Handler).serve_forever()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    box = replace(machine(), ram_total_bytes=32 << 30, ram_available_bytes=30 << 30)
    monkeypatch.setattr(up, "unreserved_machine", lambda *_: box)
    return here_with(offline=True)


@pytest.fixture
def request_(tmp_path: Path) -> UpRequest:
    folder = tmp_path / "tiny"
    folder.mkdir()
    write_tiny_llama(folder)
    program = tmp_path / "vllm"
    program.write_text(SERVER.format(python=sys.executable))
    program.chmod(0o755)
    return UpRequest(plan=PlanRequest(ref=str(folder), engine=program))


def test_it_runs_until_it_is_taken_down_and_its_key_is_in_no_command_line(
    here: Here, request_: UpRequest, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("a-secret-key\n")
    key.chmod(0o600)
    deployment = up.up_vllm(here, replace(request_, api_key_file=key))
    try:
        assert deployment.phase is Phase.READY
        assert deployment.is_vllm
        assert deployment.stored_plan.problem is None
        assert deployment.pid is not None
        line = psutil.Process(deployment.pid).cmdline()
        assert line[2:5] == ["serve", str(tmp_path / "tiny"), "--max-model-len"]
        assert "a-secret-key" not in json.dumps([line, list(deployment.argv)])
        assert up.up_vllm(here, replace(request_, api_key_file=key)).pid == deployment.pid
        [worker] = psutil.Process(deployment.pid).children()
        os.kill(deployment.pid, signal.SIGKILL)
        worker.wait(60)  # what vLLM started holds GPU memory, and ends with it
        assert deployment.options.env["SPT_NOENV"] == "1"  # by which the real one's are found
    finally:
        take_down(here.settings.deployments_dir, deployment.name)
    assert find_record(here.settings.deployments_dir, deployment.name) is None


def test_why_it_ended_is_said(here: Here, request_: UpRequest) -> None:
    why = "ValueError: No available memory for the cache blocks. Try increasing"
    with pytest.raises(LoadFailed, match="vLLM has no memory left for its cache") as caught:
        up.up_vllm(here, replace(request_, env=(("END", why),)))
    assert caught.value.cause.kind is CauseKind.OUT_OF_MEMORY


def test_without_vllm_its_command_line_is_said(
    here: Here, request_: UpRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotFound, match="no program vllm") as caught:
        up.up_vllm(here, replace(request_, plan=replace(request_.plan, engine=Path("vllm"))))
    assert "vllm serve" in (caught.value.hint or "")


def test_what_is_llama_servers_is_refused(here: Here, request_: UpRequest) -> None:
    for other in (replace(request_, canary=True), replace(request_, env=(("VLLM_API_KEY", "x"),))):
        with pytest.raises(UsageError):
            up.up_vllm(here, other)
