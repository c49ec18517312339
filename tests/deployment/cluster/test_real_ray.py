"""Two machines that are network namespaces, in one cluster by Ray: start, join, ls, leave."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.hints import check_hints
from tests.deployment.cluster.machines import processes_at

ROOT = Path(__file__).resolve().parents[3]
ADDRESSES = {"a": "10.77.8.1", "b": "10.77.8.2"}

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: the extra `cluster`"),
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("ip") is None,
        reason="takes root and iproute2 for network namespaces",
    ),
]


@dataclass(frozen=True)
class Lab:
    folder: Path
    prefix: str

    def type(self, machine: str, *words: str, code: int | None = 0) -> tuple[str, str]:
        done = subprocess.run(
            ["ip", "netns", "exec", f"{self.prefix}{machine}", sys.executable, "-m", "launcher", *words],
            env={**os.environ, "LAUNCHER_HOME": str(self.folder / machine), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        check_hints(done.stderr)
        assert code is None or done.returncode == code, (done.stdout, done.stderr)
        return done.stdout, done.stderr

    def json(self, machine: str, *words: str) -> Any:
        return json.loads(self.type(machine, *words, "--json")[0])

    def processes(self, machine: str = "") -> list[str]:
        home = str(self.folder / machine)
        return [str(each.info["cmdline"]) for each in processes_at(lambda of: of.startswith(home), ["ray"])]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, f"ray{os.getpid()}")
    for name in ADDRESSES:
        _ip("netns", "add", f"{lab.prefix}{name}")
    try:
        a, b = (f"{lab.prefix}{name}" for name in ADDRESSES)
        _ip("-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b)
        for name, address in ADDRESSES.items():
            inside = f"{lab.prefix}{name}"
            _ip("-n", inside, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", inside, "link", "set", "eth0", "up")
            _ip("-n", inside, "link", "set", "lo", "up")
        yield lab
    finally:
        for name in ADDRESSES:
            lab.type(name, "cluster", "leave", code=None)
            _ip("netns", "del", f"{lab.prefix}{name}")


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def test_a_machine_joins_is_listed_and_leaves(lab: Lab) -> None:
    started = lab.json("a", "cluster", "start")
    token = Path(started["token_file"])
    assert token.stat().st_mode & 0o777 == 0o600

    wrong = lab.folder / "wrong"
    wrong.write_text("0" * 64)
    wrong.chmod(0o600)
    _, err = lab.type("b", "cluster", "join", ADDRESSES["a"], "--token-file", str(wrong), code=4)
    assert "refuses the token" in err
    assert lab.processes("b") == []  # what was refused leaves nothing running

    joined = lab.json("b", "cluster", "join", ADDRESSES["a"], "--token-file", str(token))
    assert joined == {"address": ADDRESSES["b"], "head": ADDRESSES["a"], "port": 6379}
    _, err = lab.type("b", "cluster", "join", ADDRESSES["a"], "--token-file", str(token), code=2)
    assert "launcher cluster leave" in err

    here, other = lab.json("a", "cluster", "ls")
    assert (here["name"], here["ray"]) == ("here", None)
    assert (other["ray"], other["state"], other["problem"]) == (ADDRESSES["b"], "ready", None)
    assert other["machine"]["ram_total_bytes"] == here["machine"]["ram_total_bytes"]

    assert lab.type("b", "cluster", "leave")[0] == f"this machine has left {ADDRESSES['a']}\n"
    assert lab.processes("b") == []
    assert lab.processes("a") != []  # never all Rays of a machine: both are on this one
    session = json.loads((token.parent / "ray.json").read_text())["process"]["pid"]
    os.kill(session, signal.SIGKILL)
    lab.type("a", "cluster", "leave")
    assert lab.processes() == []
    assert [each for each in psutil.pids() if _session_of(each) == session] == []


def test_a_token_that_others_can_read_is_refused(lab: Lab) -> None:
    loose = lab.folder / "token"
    loose.write_text("0" * 64)
    loose.chmod(0o644)
    _, err = lab.type("b", "cluster", "join", ADDRESSES["a"], "--token-file", str(loose), code=4)
    assert err.splitlines()[-1] == f"hint: chmod 600 {loose}"
    _, err = lab.type("b", "cluster", "join", ADDRESSES["a"], "--token-file", "none-there", code=4)
    assert "none-there cannot be read" in err
