"""What a worker may take is counted from when it was ready: libraries of a CUDA engine take 100 MiB before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from launcher.simulate.limits import Limits
from launcher.units import MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers run on Linux")

# takes so many MiB of its own for each line that it reads, and so many of a file's
_TAKES = """\
import mmap, sys, tempfile
kept = []
for line in sys.stdin:
    own, of_a_file = map(int, line.split())
    kept.append(b"x" * (own << 20))
    if of_a_file:
        file = tempfile.TemporaryFile()
        file.write(b"x" * (of_a_file << 20))
        file.flush()
        kept.append(mmap.mmap(file.fileno(), 0))
        sum(kept[-1][::4096])
    print("done", flush=True)
"""


class Worker:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self.pid = process, process.pid

    def take(self, own_mib: int, of_a_file_mib: int = 0) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{own_mib} {of_a_file_mib}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"


@contextmanager
def worker() -> Iterator[Worker]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _TAKES], stdin=pipe, stdout=pipe, text=True) as process:
        yield Worker(process)
        assert process.stdin is not None
        process.stdin.close()


def test_what_libraries_take_is_not_counted_against_a_model() -> None:
    with worker() as process:
        limits = Limits(process.pid, most_bytes=50 * MIB)
        process.take(200)
        assert limits.overrun() is None
        limits.started()
        assert (limits.overrun(), limits.is_spent) == (None, False)
        process.take(0, of_a_file_mib=100)
        assert (limits.overrun(), limits.is_spent) == (None, False)
        process.take(45)
        assert (limits.overrun(), limits.is_spent) == (None, True)
        process.take(45)
        assert limits.overrun() == "it needs more than 50.0 MiB of memory"
