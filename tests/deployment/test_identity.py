"""Processes recognised, although pids are used again."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from launcher.deployment.identity import Presence, find_presence, identify
from launcher.deployment.process import reap_process
from tests.serving import running, until

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


def test_a_process_is_recognised(tmp_path: Path) -> None:
    with running(*SLEEP, log=tmp_path / "a.log") as process:
        assert find_presence(process) is Presence.RUNNING
        assert identify(process.pid) == process
        assert find_presence(replace(process, start_time=process.start_time + 1)) is Presence.GONE
        assert find_presence(replace(process, boot_id="another boot")) is Presence.GONE
        assert find_presence(replace(process, hostname="elsewhere", boot_id="x")) is Presence.OTHER_HOST
        assert find_presence(replace(process, hostname="renamed since")) is Presence.RUNNING


def test_a_zombie_is_gone_and_its_status_is_kept(tmp_path: Path) -> None:
    with running(sys.executable, "-c", "raise SystemExit(7)", log=tmp_path / "a.log") as process:
        until(lambda: find_presence(process) is Presence.GONE)
        assert identify(process.pid) == process
        assert reap_process(process) == 7
        assert reap_process(process) is None
