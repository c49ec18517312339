"""The units that `up` makes, under a real user's systemd in mount and cgroup namespaces of its own.

Needs root (namespaces, mounts) and systemd's programs; skipped elsewhere. Where the memory controller
belongs to cgroup v1, MemoryMax is set and not enforced; test_failures has what the kernel does at a limit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.engine.find import Engine
from tests.serving import until

pytestmark = pytest.mark.engine

UNIT = "launcher-m.service"
MANAGER = """
echo $$ > "$1/cgroup.procs" || exit 9
exec unshare --mount --cgroup --propagation private sh -c '
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system /run/systemd/journal /run/log/journal || exit 9
mkdir -m 0700 -p /run/user/0 || exit 9
mount -t tmpfs tmpfs /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 9
mkdir -p /var/lib/systemd && mount -t tmpfs tmpfs /var/lib/systemd || exit 9
mkdir /var/lib/systemd/linger && touch /var/lib/systemd/linger/root || exit 9
/usr/lib/systemd/systemd-journald &
exec /usr/lib/systemd/systemd --user'
"""


class Session:
    """A user whose systemd runs: commands in its namespaces."""

    def __init__(self, manager: int, env: dict[str, str]) -> None:
        self._into = ("nsenter", "--target", str(manager), "--mount", "--cgroup", "--")
        self._env = env

    def type(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (*self._into, *words),
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def launcher(self, *words: str) -> Any:
        done = self.type(sys.executable, "-m", "launcher", *words, "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    def property(self, name: str) -> str:
        return self.type("systemctl", "--user", "show", f"--property={name}", "--value", UNIT).stdout.strip()

    def state(self) -> str:
        return str(next(iter(self.launcher("ps")))["state"])


@pytest.fixture
def session(engine: Engine, tmp_path: Path) -> Iterator[Session]:
    if os.geteuid() != 0 or not Path("/usr/lib/systemd/systemd-journald").exists():
        pytest.skip("a systemd of one's own needs root and systemd's programs")
    group = _group()
    manager = subprocess.Popen(
        ["sh", "-c", MANAGER, "sh", str(group)],
        env={**os.environ, "XDG_RUNTIME_DIR": "/run/user/0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    env = {
        **os.environ,
        "XDG_RUNTIME_DIR": "/run/user/0",
        "LAUNCHER_HOME": str(tmp_path / "launcher"),
        "LAUNCHER_ENGINE": str(engine.path),
        "GGML_ODD": "a$HOME b%n",
        "SECRET": "s",
        "LLAMA_ARG_THREADS": "1",
    }
    session = Session(manager.pid, env)
    try:
        _until_it_answers(session, manager)
        yield session
    finally:
        session.type(sys.executable, "-m", "launcher", "stop", "--all")
        (group / "cgroup.kill").write_text("1")
        manager.wait(60)
        until(lambda: _removed(group))


def test_systemd_keeps_the_supervisor_and_the_supervisor_the_server(
    session: Session, default_model: Path
) -> None:
    first = session.launcher("up", str(default_model), "-c", "512", "--name", "m", "--cache-ram", "0")
    assert first["unit"] == UNIT
    supervisor = int(session.property("MainPID"))
    assert first["supervisor"]["pid"] == supervisor
    assert session.property("MemoryMax") == str(first["options"]["memory_bytes"])
    variables = Path(f"/proc/{supervisor}/environ").read_text().split("\0")
    assert "GGML_ODD=a$HOME b%n" in variables
    assert not any(variable.startswith("SECRET=") for variable in variables)
    assert not [each for each in variables if each.startswith("LLAMA_ARG_")]

    os.kill(first["pid"], signal.SIGKILL)
    until(lambda: session.launcher("ps")[0]["restarts"] == 1 and session.state() == "running")
    assert int(session.property("MainPID")) == supervisor

    os.kill(supervisor, signal.SIGKILL)
    until(lambda: session.property("NRestarts") == "1" and session.state() == "running")
    [again] = session.launcher("ps")
    assert (again["port"], again["restarts"]) == (first["port"], 2)
    assert again["failure"]["sentence"].startswith(f"its supervisor (pid {supervisor}) was killed")

    session.launcher("restart", "m")
    assert session.property("ActiveState") == "active"
    session.launcher("stop", "m")
    assert session.property("LoadState") == "not-found"
    assert session.launcher("ps") == []
    journal = session.type("journalctl", "--output=cat").stdout
    assert f"launcher: m is ready at {first['url']}\n" in journal
    assert "launcher: llama-server was killed by signal 9" in journal
    assert "llama_model_loader" not in journal, "llama-server's own log is for its owner alone"


def test_a_deployment_that_is_given_up_is_not_started_again(session: Session, default_model: Path) -> None:
    up = (sys.executable, "-m", "launcher", "up", str(default_model), "--name", "m")
    done = session.type(*up, "--", "--chat-template-file", "/no/such/file")
    assert done.returncode == 5, done.stderr
    assert session.property("LoadState") == "not-found"
    assert session.launcher("ps") == []


def test_a_name_that_systemd_has_already_is_kept_by_us(session: Session, default_model: Path) -> None:
    session.type(
        "sh",
        "-c",
        "mkdir -p /run/user/0/systemd/user; "
        f"printf '[Service]\\nExecStart=true\\n' > /run/user/0/systemd/user/{UNIT}",
    )
    session.type("systemctl", "--user", "daemon-reload")
    assert session.launcher("up", str(default_model), "-c", "512", "--name", "m")["unit"] is None
    assert session.state() == "running"


def test_enable_hands_it_over_and_disable_ends_it(session: Session, default_model: Path) -> None:
    first = session.launcher("up", str(default_model), "-c", "512", "--name", "m")
    done = session.launcher("enable", "m", "--now")
    assert (done["unit"], done["verified"], done["started"]) == (UNIT, True, True)
    assert session.property("ActiveState") == "active"
    with urllib.request.urlopen(f"{first['url']}/health") as answer:
        assert answer.status == 200
    listed = session.type(sys.executable, "-m", "launcher", "ps")
    assert f"note: m is a unit of systemd (active): systemctl --user status {UNIT}" in listed.stderr
    stopped = session.type(sys.executable, "-m", "launcher", "stop", "m")
    assert (stopped.returncode, "launcher disable m" in stopped.stderr) == (4, True)
    session.launcher("disable", "m")
    assert session.property("LoadState") == "not-found"


def _group() -> Path:
    """Return a v2 cgroup for systemd to make its own in."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    top = next((Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"), None)
    if top is None:
        pytest.skip("no cgroup v2 is mounted here")
    group = top / f"launcher-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    return group


def _until_it_answers(session: Session, manager: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while session.type("systemctl", "--user", "is-system-running").stdout.strip() not in {
        "running",
        "degraded",
    }:
        if manager.poll() is not None or time.monotonic() > deadline:
            pytest.skip(f"a systemd of one's own does not come up here (status {manager.returncode})")
        time.sleep(0.1)


def _removed(group: Path) -> bool:
    """Children first, as the kernel wants it."""
    try:
        for folder, _, _ in os.walk(group, topdown=False):
            Path(folder).rmdir()
    except OSError:
        return not group.exists()
    return True
