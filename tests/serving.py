"""Requests for the running half: the fake engine's command line, and what `bring_up` takes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from launcher.deployment.deploy import Request
from launcher.deployment.identity import ProcessId
from launcher.deployment.options import SupervisorOptions
from launcher.deployment.process import start_process
from launcher.deployment.record import Deployment
from launcher.deployment.records import find_record
from launcher.engine.environment import engine_env
from launcher.plan.from_json import stored
from tests.plan.planned import small_plan

FAKE = Path(__file__).parent / "fakes" / "llama_server.py"
SMALL = ("--fit", "off", "-c", "512", "-np", "1", "--cache-ram", "0", "-t", "2")
"""What keeps the real engine small and explicit."""

PATIENCE_S = 60.0
"""An event that never comes fails its test after this."""


# A program that brings the fake engine up: folder, model, switches of the engine.
BRING_UP = """
import sys
from pathlib import Path
from launcher.deployment.deploy import bring_up
from tests.serving import a_request, fake_command
folder, model, *switches = sys.argv[1:]
bring_up(Path(folder), a_request("m", fake_command(*switches), Path(model)))
"""


def record_of(folder: Path, name: str = "m") -> Deployment:
    entry = find_record(folder, name)
    assert isinstance(entry, Deployment)
    return entry


def stub_model(folder: Path) -> Path:
    """A file the fake engine takes for a model."""
    path = folder / "stub.gguf"
    path.write_bytes(b"GGUF" + bytes(1020))
    return path


def fake_command(*switches: str) -> tuple[str, ...]:
    """The fake engine's command line, without model and port."""
    return (sys.executable, str(FAKE), *switches)


def a_request(name: str, command: Sequence[str], model: Path, **changes: Any) -> Request:
    """Return a request that runs `command` on `model`, on loopback; `changes` are its fields and options."""
    names = {field.name for field in fields(SupervisorOptions)}
    options = SupervisorOptions(**{name: changes.pop(name) for name in names & set(changes)})
    env, dropped = engine_env(os.environ)
    values: dict[str, Any] = {
        "name": name,
        "model_id": name,
        "model_path": model,
        "model_bytes": model.stat().st_size if model.exists() else 0,
        "stored_plan": stored(small_plan()),
        "plan_hash": "0" * 16,
        "argv_for": lambda port: (*command, "-m", str(model), "--host", "127.0.0.1", "--port", str(port)),
        "env": env,
        "env_dropped": dropped,
        "engine_path": Path(command[0]),
        "options": options,
    }
    return Request(**(values | changes))


@contextlib.contextmanager
def running(*command: str, log: Path, marker: str = "test") -> Iterator[ProcessId]:
    """`command` as `process.start` starts it, killed at the end."""
    process = start_process(command, dict(os.environ), log, marker=marker)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, 0)


def until(what: Callable[[], object]) -> None:
    """Wait for a condition; fails when it does not come true."""
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)


def written_pid(path: Path) -> int:
    """The pid a process wrote into `path`, once it has."""
    until(lambda: path.exists() and path.read_text())
    return int(path.read_text())


def python(code: str, *arguments: str, **named: Any) -> subprocess.Popen[bytes]:
    """A Python of its own that can import the launcher and the tests."""
    root = Path(__file__).parent.parent
    return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=root, **named)
