"""Memory of a pull does not grow with the model: buffers and what is being hashed, not files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from launcher.units import GIB, MIB
from tests.fakes.hub import FakeHub
from tests.make_gguf import make_gguf

REPO = "user/big-GGUF"
LIMIT_BYTES = 150 * MIB
SPREAD_BYTES = 32 * MIB
"""Between two pulls of one model: how much is mapped for the hash at the worst moment depends on timing."""

MEASURED = """
import atexit, sys
from pathlib import Path
from launcher.cli.main import main
atexit.register(lambda: sys.stderr.write(Path("/proc/self/status").read_text()))
main()
"""
"""`launcher`, and at its end what the kernel says of the process.

`ru_maxrss` would not do: it begins with the peak of whoever started the process.
"""


def peak_of_a_pull(hub: FakeHub, n_expert: int) -> tuple[int, int]:
    """Pull a hollow model of four shards; return its bytes and the peak memory, with mapped files."""
    with tempfile.TemporaryDirectory() as made:  # pytest would keep what is in tmp_path
        folder = Path(made)
        files = make_gguf(
            folder / "big-Q4_0.gguf", "deepseek2", splits=4, hollow=True, numbers={"n_expert": n_expert}
        )
        hub.publish(REPO, {file.name: file for file in files})
        own = {"HF_HOME": str(folder / "hf"), "LAUNCHER_HOME": str(folder / "launcher")}
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, "pull", f"{REPO}:Q4_0", "--progress", "none"],
            env={**os.environ, **own, "HF_ENDPOINT": hub.url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert [Path(path).stat().st_size for path in done.stdout.split()] == [
            file.stat().st_size for file in files
        ]
        size_bytes = sum(file.stat().st_size for file in files)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("VmHWM:"))
    return size_bytes, int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel's figure is in /proc")
def test_memory_does_not_grow_with_the_model(hub: FakeHub) -> None:
    small_bytes, small_peak = peak_of_a_pull(hub, n_expert=20)
    large_bytes, large_peak = peak_of_a_pull(hub, n_expert=164)
    assert large_bytes > max(GIB, 6 * small_bytes)
    assert 0 < large_peak < LIMIT_BYTES
    assert large_peak < small_peak + SPREAD_BYTES
