import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.deployment.identity import Presence, find_presence, lives
from launcher.deployment.process import read_activity, reap_process, start_process, stop_process
from launcher.errors import NotAllowed, NotFound
from tests.serving import fake_command, running, stub_model, until, written_pid

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")
DEAF = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
)


def test_it_leads_its_own_session_and_inherits_nothing(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    look = (
        "import os; print(os.getsid(0) == os.getpid(), os.getcwd(), os.readlink('/proc/self/fd/0'),"
        " sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1], os.environ['LAUNCHER_DEPLOYMENT'])"
    )
    kept, other = os.pipe()
    os.set_inheritable(other, True)
    try:
        with running(sys.executable, "-c", look, log=log, marker="mine") as process:
            until(lambda: find_presence(process) is Presence.GONE)
    finally:
        os.close(kept)
        os.close(other)
    assert log.read_text() == "True / /dev/null [0, 1, 2] mine\n"
    assert oct(log.stat().st_mode & 0o777) == "0o600"


def test_the_signal_that_ended_it_is_told(tmp_path: Path) -> None:
    with running(*SLEEP, log=tmp_path / "a.log") as process:
        assert reap_process(process) is None
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: find_presence(process) is Presence.GONE)
        assert reap_process(process) == -signal.SIGKILL


def test_stop_is_graceful_and_can_be_repeated(tmp_path: Path) -> None:
    log, model = tmp_path / "a.log", stub_model(tmp_path)
    command = fake_command("-m", str(model), "--port", "0")
    with running(*command, log=log) as process:
        until(lambda: "listening" in log.read_text())
        assert stop_process(process, marker="test")
        assert find_presence(process) is Presence.GONE
        assert not stop_process(process, marker="test")
    assert log.read_text().endswith("cleaning up before exit...\n")


def test_stop_ends_one_that_ignores_it(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with running(*DEAF, log=log) as process:
        until(lambda: "deaf" in log.read_text())
        assert stop_process(process, marker="test", grace_s=0.1)
        assert find_presence(process) is Presence.GONE


@pytest.mark.parametrize("leaves", [(), ("--leave-session",)], ids=["in the session", "left the session"])
def test_stop_ends_a_deaf_grandchild(tmp_path: Path, leaves: tuple[str, ...]) -> None:
    log, pid_file = tmp_path / "a.log", tmp_path / "pid"
    switches = ("-m", str(stub_model(tmp_path)), "--port", "0", "--spawn-grandchild", str(pid_file), *leaves)
    with running(*fake_command(*switches), log=log) as process:
        grandchild = written_pid(pid_file)
        until(lambda: "listening" in log.read_text())
        assert stop_process(process, marker="test", grace_s=0.2)
        assert not lives(grandchild)


def test_stop_finds_an_orphan_by_its_marker(tmp_path: Path) -> None:
    log, pid_file = tmp_path / "a.log", tmp_path / "pid"
    switches = ("-m", str(stub_model(tmp_path)), "--port", "0", "--spawn-grandchild", str(pid_file))
    with running(*fake_command(*switches, "--leave-session"), log=log, marker="orphans") as process:
        grandchild = written_pid(pid_file)
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: find_presence(process) is Presence.GONE)
        assert lives(grandchild)
        assert stop_process(process, marker="orphans", grace_s=0.1)
        assert not lives(grandchild)


def test_stop_leaves_a_reused_pid_alone(tmp_path: Path) -> None:
    with running(*SLEEP, log=tmp_path / "a.log", marker="a stranger's") as stranger:
        forged = replace(stranger, start_time=stranger.start_time - 1)
        assert not stop_process(forged, marker="test", grace_s=0.1)
        assert find_presence(stranger) is Presence.RUNNING


def test_ctrl_c_while_stopping_kills_at_once(tmp_path: Path) -> None:
    log = tmp_path / "a.log"

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with running(*DEAF, log=log) as process:
            until(lambda: "deaf" in log.read_text())
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                stop_process(process, marker="test", grace_s=600)
            assert find_presence(process) is Presence.GONE
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_program_that_cannot_run_is_named(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with pytest.raises(NotFound, match="the engine /no/engine does not exist"):
        start_process(["/no/engine"], {}, log, marker="test")
    plain = tmp_path / "plain"
    plain.write_text("")
    with pytest.raises(NotAllowed, match=r"plain may not be run"):
        start_process([str(plain)], {}, log, marker="test")


def test_activity_counts_the_whole_tree(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    child = (
        "import sys; data = sys.stdin.buffer.read(); print('read', flush=True); "
        "sys.stdin = open('/dev/null');import time; time.sleep(600)"
    )
    script = f'head -c 8000000 /dev/zero | {sys.executable} -c "{child}"'
    with running("/bin/sh", "-c", script, log=log) as process:
        until(lambda: "read" in log.read_text())
        seen = read_activity(process)
        assert seen is not None
        assert (seen.read_bytes or 0) >= 8_000_000
        assert seen.resident_bytes >= 8_000_000
    assert read_activity(process) is None
