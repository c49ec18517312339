"""Logs are bounded while a server runs, and a full disk costs lines, not logs, nor what is known of servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.deployment.deploy import bring_up
from launcher.deployment.identity import lives
from launcher.deployment.log_file import open_log, trim
from launcher.deployment.records import find_record
from launcher.deployment.status import DeploymentState, ask_status
from launcher.deployment.takedown import take_down, tidy
from launcher.engine.client import is_loaded
from tests.serving import a_request, fake_command, record_of, stub_model, until
from tests.small_disk import fill, mounted

WRITE = """
import sys
from pathlib import Path
from launcher.deployment.supervisor.log_writer import LogWriter
log = LogWriter(Path(sys.argv[1]), 1000)
for number in range(int(sys.argv[2])):
    log.add(b"%03d " % number + b"x" * 95 + b"\\n", quiet=False)
    log.bound()
"""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small") as folder:
        yield folder


def written(path: Path, n_lines: int) -> None:
    log = open_log(path)
    try:
        subprocess.run(
            [sys.executable, "-c", WRITE, str(path), str(n_lines)], stdout=log, stderr=log, check=True
        )
    finally:
        os.close(log)


def test_a_log_is_bounded_by_its_writer_without_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "m.log"
    written(path, 40)
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert sizes == {"m.log": 700, "m.log.1": 1100, "m.log.2": 1100}
    assert path.read_text().startswith("033 ")


def test_a_full_disk_shifts_no_log_out(small: Path) -> None:
    path = small / "m.log"
    for text in ("first", "second", "third"):
        log = open_log(path)
        os.write(log, text.encode())
        os.close(log)
    fill(small)
    with pytest.raises(OSError, match="No space left"):
        open_log(path)
    path.write_bytes(b"third")
    trim(path, 1)
    kept = {file.name: file.read_text() for file in small.glob("*m.log*")}
    assert kept == {"m.log": "third", "m.log.1": "second", "m.log.2": "first"}


def test_lines_that_do_not_fit_are_counted(small: Path) -> None:
    path = small / "m.log"
    log = open_log(path)
    program = (
        "import os, sys; from pathlib import Path; "
        "from launcher.deployment.supervisor.log_writer import LogWriter; log = LogWriter(Path(sys.argv[1]));"
        "log.add(b'x' * 5000 + b'\\n', quiet=False); os.unlink(sys.argv[2]); log.add(b'after\\n', quiet=False)"
    )
    fill(small)
    argv = [sys.executable, "-c", program, str(path), str(small / "filler")]
    subprocess.run(argv, stderr=log, check=True)
    os.close(log)
    assert path.read_text().endswith("launcher: 5001 bytes of this log could not be written\nafter\n")


def test_a_server_restarted_on_a_full_disk_is_up(small: Path, tmp_path: Path) -> None:
    folder = small / "deployments"
    first = bring_up(folder, a_request("m", fake_command(), stub_model(tmp_path), keep_up=True))
    fill(small)
    os.kill(first.pid or 0, signal.SIGKILL)
    until(lambda: not lives(first.pid or 0))
    until(lambda: is_loaded(first.url))
    assert record_of(folder) == first, "the record cannot be written"
    report = ask_status(record_of(folder))
    assert report.status.state is DeploymentState.RUNNING
    assert report.deployment.pid not in {None, first.pid}
    tidy(folder)
    assert take_down(folder, "m").was is DeploymentState.RUNNING
    assert find_record(folder, "m") is None
