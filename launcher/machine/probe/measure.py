"""Measure how fast this machine's memory and disk are; seconds of work, only when asked for."""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

from launcher.machine.machine import FAULT_BYTES

_SECONDS = 1.5  # of each measurement
_PART = 64 << 20  # bytes a thread compares; with all threads more than any cache of this size of machine
_LEAST_FILE = 64 << 20
_PIECE = 512 << 10  # bytes of each side that are compared at once
_WINDOW_S = 2e-3  # in which pieces are counted
_RAM_SECONDS = 3.0  # long enough that a window of them is undisturbed on a busy machine
_APART_TIMEOUT_S = 20.0  # of a program of this folder; what it has printed by then counts


def measure_ram(threads: int, available_bytes: int, cpus: Sequence[int] = ()) -> int | None:
    """Return the bytes/s that so many threads read together, each on one of `cpus` if any are named.

    None if there is no memory to try it with, or this process may not run there.
    """
    allowed = sorted(set(cpus) & os.sched_getaffinity(0)) if cpus else []
    if cpus and not allowed:
        return None
    part = min(_PART, available_bytes // (4 * threads)) // mmap.PAGESIZE * mmap.PAGESIZE
    if part < 1 << 20:
        return None
    memcmp = ctypes.CDLL(None).memcmp  # reads both sides as fast as the core can; other threads go on
    memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    started = threading.Barrier(threads)

    def compare(number: int) -> list[float]:
        """Return when each piece was compared."""
        if allowed:
            os.sched_setaffinity(threading.get_native_id(), {allowed[number % len(allowed)]})
        with mmap.mmap(-1, part) as memory:
            memory.write(b"\1" * part)  # a page that nobody wrote is one page of zeros for all
            address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            ends: list[float] = []
            started.wait()
            end = time.monotonic() + _RAM_SECONDS
            for offset in cycle(range(0, part - 2 * _PIECE + 1, 2 * _PIECE)):
                memcmp(address + offset, address + offset + _PIECE, _PIECE)
                ends.append(time.monotonic())
                if ends[-1] > end:
                    return ends
        raise AssertionError  # the cycle has no end

    with ThreadPoolExecutor(threads) as pool:
        ends = sorted(end for each in pool.map(compare, range(threads)) for end in each)
    return round(_most_within(ends, _WINDOW_S) * 2 * _PIECE / _WINDOW_S)


def _most_within(times: Sequence[float], window: float) -> int:
    """Return how many of the sorted times lie in the window that holds most."""
    # what else runs here takes cores away for milliseconds: the best of many short windows is the machine's
    most = first = 0
    for last, end in enumerate(times):
        while times[first] <= end - window:
            first += 1
        most = max(most, last - first + 1)
    return most


def measure_cores(folder: Path) -> dict[str, int]:
    """Return the bytes/s of weights that one core multiplies, by type, with an engine's kernels.

    Empty where it has none that can be called: an engine for many processors keeps them in modules.
    """
    return _measure_apart("kernels", folder)


def measure_attention(folder: Path) -> dict[str, int]:
    """Return how many cached tokens of a head a core attends to in a second, by cache type and head."""
    return _measure_apart("attention", folder)


def measure_links(folder: Path) -> dict[str, int]:
    """Return the bytes/s of a copy from page-locked memory to each GPU, by llama.cpp's name for it."""
    return _measure_apart("links", folder)


def _measure_apart(module: str, folder: Path) -> dict[str, int]:
    """Run one of this folder's programs on an engine's libraries; what it printed before its end counts."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", f"launcher.machine.probe.{module}", str(folder)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_APART_TIMEOUT_S,
            check=False,
        )
        lines = done.stdout.splitlines()
    except subprocess.TimeoutExpired as error:
        lines = (error.stdout or b"").decode(errors="replace").splitlines()[:-1]
    except OSError:
        return {}
    rates = {}
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            name, rate = json.loads(line)
            rates[str(name)] = int(rate)
    return rates


def measure_disk(file: Path, threads: int) -> int | None:
    """Return the bytes/s of random reads of the size of a page fault, past the page cache.

    So many threads read at once, as those that compute wait for a page fault each.
    None where the file is too small or has holes, or its file system does not read past the cache.
    """
    stat = file.stat()
    size = min(stat.st_size, stat.st_blocks * 512)  # a hollow file has no blocks to read
    direct = getattr(os, "O_DIRECT", None)
    if direct is None or size < max(_LEAST_FILE, stat.st_size):
        return None
    try:
        descriptor = os.open(file, os.O_RDONLY | direct)
    except OSError:
        return None
    try:
        with ThreadPoolExecutor(threads) as pool:
            rates = pool.map(lambda seed: _random_reads(descriptor, size, seed), range(threads))
            return round(sum(rates)) or None
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _random_reads(descriptor: int, size: int, seed: int) -> float:
    places = random.Random(seed)  # noqa: S311  any places will do
    with mmap.mmap(-1, FAULT_BYTES) as buffer:  # aligned, as direct reads want it
        return _rate(
            lambda: os.preadv(descriptor, [buffer], places.randrange(size // FAULT_BYTES) * FAULT_BYTES),
            FAULT_BYTES,
        )


def _rate(once: Callable[[], object], n_bytes: int, seconds: float = _SECONDS) -> float:
    """Return the bytes/s of doing it over and over."""
    count, begun = 0, time.monotonic()
    while (took := time.monotonic() - begun) < seconds:
        once()
        count += 1
    return count * n_bytes / took
