"""`launcher pull` against one `curl` per shard (no hash) and `hf download`: 4 shards over loopback, into fresh folders.

Each run is a command of its own, from its start to its end; wall time, CPU time and peak memory are of the
process and its children. The Hub is the tests' one, in a process of its own: it sends files with sendfile(2),
about 0.2 s of CPU per GiB for all clients alike. `curl` neither hashes nor waits for the disk, `launcher
pull` does both; the rows below the line are no rivals but say what the hash costs here: `curl` and then
`openssl dgst -sha256` of all shards at once, that alone, and a `launcher pull` of what is here already, which
is all start and listing. Commands take turns in an order drawn for each round.

Before each run the page cache is filled with another file, as it is on any machine that has been up for a
day. Without that the first to write to memory that a virtual machine has given back to its host pays for it,
ten times what the writing costs, and which command that is is luck (`--as-is`). Where the disk has no room
for such a file it is left out, and said.

The kernel counts what a process was before its program began: no peak is below this script's own, some 20
MiB.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.tiny_gguf import tiny_gguf

ROOT = Path(__file__).resolve().parent.parent
REPO = "bench/model-GGUF"
SHARDS = 4
CURL, CURL_HASHED = "curl, one per shard", "curl, then openssl sha256"
SERVER = """
import sys
from pathlib import Path
from tests.fakes.hub import FakeHub
with FakeHub() as hub:
    commit = hub.publish(sys.argv[1], {Path(name).name: Path(name) for name in sys.argv[2:]})
    print(hub.url, commit, flush=True)
    sys.stdin.read()
"""


FREE_BYTES = (
    450 << 20
)  # the kernel reclaims below about this much on 24 GiB (measured): more cannot be filled
MOST_FILLED = 64 << 30
PIECE = bytearray(1 << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    wall_s: float
    cpu_s: float
    peak_bytes: int


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench pull", description=__doc__)
    parser.add_argument("--gib", type=float, default=4.0, help="size of all shards together")
    parser.add_argument("--runs", type=int, default=5, help="runs of each, interleaved")
    parser.add_argument("--dir", type=Path, default=None, help="folder to work in: its disk is measured too")
    parser.add_argument("--as-is", action="store_true", help="do not fill the page cache before each run")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-pull-", dir=chosen.dir) as folder:
        files = write_shards(Path(folder) / "served", int(chosen.gib * 2**30) // SHARDS)
        with serve(files) as server:
            assert server.stdout is not None
            url, commit = server.stdout.readline().split()
            pulled_bytes = sum(file.stat().st_size for file in files)
            filler = write_filler(Path(folder), pulled_bytes, wanted=not chosen.as_is)
            measured = measure(url, commit, [file.name for file in files], filler, chosen.runs)
            server.communicate()
    show(measured, chosen.gib)
    return 0


def write_shards(folder: Path, size_bytes: int) -> list[Path]:
    """Shards with true headers and random weights: nothing on the way can compress them."""
    folder.mkdir()
    files = []
    for index in range(SHARDS):
        small = tiny_gguf(n_values=8, shard=(index, SHARDS))[:-32]
        n_values = (size_bytes - len(small)) // 32 * 8
        old, new = (struct.pack("<IQIQ", 1, n, 0, 0) for n in (8, n_values))
        assert small.count(old) == 1
        path = folder / f"model-Q8_0-{index + 1:05d}-of-{SHARDS:05d}.gguf"
        with path.open("wb") as file:
            file.write(small.replace(old, new))
            left = 4 * n_values
            while left:
                file.write(os.urandom(min(left, len(PIECE))))
                left -= min(left, len(PIECE))
        files.append(path)
    return files


def serve(files: list[Path]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SERVER, REPO, *map(str, files)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def write_filler(folder: Path, pulled_bytes: int, *, wanted: bool) -> Path:
    """Write a file as large as the available memory, to fill the page cache.

    It stays empty where it is not wanted, or has no room beside what is pulled, which is said.
    """
    path = folder / "filler"
    path.touch()
    size_bytes = psutil.virtual_memory().available
    if not wanted:
        return path
    room_bytes = shutil.disk_usage(folder).free - pulled_bytes
    if size_bytes > min(MOST_FILLED, room_bytes * 3 // 4):
        print(
            f"the page cache is as it is: {size_bytes / 2**30:.0f} GiB in {folder} would be too much to fill it"
        )
        return path
    with path.open("wb", buffering=0) as file:
        while file.tell() < size_bytes:
            file.write(PIECE)
        os.fsync(file.fileno())
    return path


def fill_cache(filler: Path) -> None:
    with filler.open("rb", buffering=0) as file:
        while psutil.virtual_memory().free > FREE_BYTES and file.readinto(PIECE):
            pass


def measure(url: str, commit: str, names: list[str], filler: Path, runs: int) -> dict[str, list[Run]]:
    target = filler.with_name("target")
    curl = (
        " & ".join(f"curl -sSfL -o {name} {url}/{REPO}/resolve/{commit}/{name}" for name in names) + " & wait"
    )
    hashes = " & ".join(f"openssl dgst -sha256 {name}" for name in names) + " & wait"
    pull = [sys.executable, "-m", "launcher", "pull", f"{REPO}:Q8_0", "--progress", "none"]
    again = {"launcher pull": ("a pull of what is here", pull), CURL_HASHED: ("openssl sha256", sh(hashes))}
    commands = {
        CURL: sh(curl),
        "hf download": [str(Path(sys.executable).with_name("hf")), "download", REPO, "--quiet"],
        "launcher pull": pull,
        CURL_HASHED: sh(f"{curl}; {hashes}"),
    }
    found: dict[str, list[Run]] = {name: [] for name in [*commands, *(name for name, _ in again.values())]}
    dice = random.Random(runs)
    for _ in range(runs):
        for name in dice.sample(list(commands), len(commands)):
            fill_cache(filler)
            target.mkdir()
            found[name].append(run(commands[name], url, target, sum_of=len(names)))
            if name in again:
                second, command = again[name]
                found[second].append(run(command, url, target, sum_of=len(names)))
            shutil.rmtree(target)
            os.sync()  # what one run left to be written must not slow the next
    return found


def sh(text: str) -> list[str]:
    return ["bash", "-c", text]


def run(command: list[str], url: str, target: Path, *, sum_of: int) -> Run:
    own = {"HOME", "LAUNCHER_HOME", "HF_HOME"}
    env = {**os.environ, **{name: str(target) for name in own}, "HF_ENDPOINT": url, "PYTHONPATH": str(ROOT)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # modules compiled once, as those of `hf` are
    started = time.perf_counter()
    with (target / "said").open("wb") as said:
        child = subprocess.Popen(
            command, cwd=target, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command[0]} ended with {child.returncode}: {(target / 'said').read_text()}")
    whole = sum(1 for path in target.rglob("*.gguf") if path.stat().st_size > 0)
    if whole != sum_of:
        raise SystemExit(f"{command[0]} brought {whole} of {sum_of} files")
    return Run(wall_s=wall, cpu_s=usage.ru_utime + usage.ru_stime, peak_bytes=usage.ru_maxrss * 1024)


def show(measured: dict[str, list[Run]], gib: float) -> None:
    first = statistics.median(one.wall_s for one in measured[CURL])
    print(f"{gib:g} GiB in {SHARDS} shards over loopback, median of {len(measured[CURL])} runs")
    print(f"{'':26}{'wall':>8}{'range':>14}{'GiB/s':>8}{'CPU':>8}{'peak':>10}{'speed of curl':>15}")
    for name, runs in measured.items():
        if name == CURL_HASHED:
            print("-" * 89)
        walls = sorted(one.wall_s for one in runs)
        wall = statistics.median(walls)
        cpu = statistics.median(one.cpu_s for one in runs)
        peak = max(one.peak_bytes for one in runs) / 2**20
        spread = f"{walls[0]:.1f}-{walls[-1]:.1f}"
        print(
            f"{name:26}{wall:7.2f}s{spread:>14}{gib / wall:8.2f}{cpu:7.2f}s{peak:6.0f} MiB{first / wall:14.2f}x"
        )
