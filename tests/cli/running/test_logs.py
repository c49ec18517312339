"""`launcher logs -f`, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from launcher.deployment.records import log_path
from launcher.system.settings import read_settings


def test_ctrl_c_ends_a_log_that_is_followed_without_a_word(clean_environment: Path) -> None:
    path = log_path(read_settings().deployments_dir, "mine")
    path.parent.mkdir(parents=True)
    path.write_text("loading\n")
    with subprocess.Popen(
        [sys.executable, "-m", "launcher", "logs", "-f", "mine"],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=30)
    assert (process.returncode, rest, err) == (0, "", "")
