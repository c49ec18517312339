"""Run pip once to download a package, bounded in time, bytes and memory; say what went wrong."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.progress import OnProgress, Step
from launcher.system.network.policy import Policy
from launcher.system.network.trouble import Trouble, TroubleKind
from launcher.system.run_program import run_lines
from launcher.units import GIB, KIB, MIB, format_bytes, printable

# pip 24.1 brought `--progress-bar raw` (lines `Progress 1024 of 4096`); older ones draw the bar once in a
# pipe, when the download ends: `━━━━ 1.0/98.0 MB 3.2 MB/s eta 0:00:31`
_RAW_PROGRESS = (24, 1)
_RESUMES = (25, 1)  # brought `--resume-retries`: tries of pip's own that POLICY would not count
_PROGRESS = re.compile(r"Progress ([0-9]{1,15})(?: of ([0-9]{1,15}))?")
_LAST_BAR = re.compile(r" ([0-9]{1,6}\.[0-9])/([0-9]{1,6}\.[0-9]) (?:bytes|[kMGT]B)\b")
# of pip from 25.1 on (IncompleteDownloadError), whatever width its sentence is folded to
_INCOMPLETE = re.compile(
    r"were\s{1,9}received\s{1,9}\(([0-9.]{1,9}) ([kMG]?)\w{1,5}/([0-9.]{1,9}) ([kMG]?)\w{1,5}\)"
)
_THOUSANDS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_URL = re.compile(r"\b(?:https?|file)://\S+")
_MISMATCH = "DO NOT MATCH THE HASHES"
_GOT = re.compile(r"Got {1,20}([0-9a-f]{64})")
_FULL = re.compile(r"No space left on device|Disk quota exceeded|Errno 28\b|Errno 122\b")
# pip itself tries 6 times where it gets no answer, and says so; it does not where a body breaks off.
_GAVE_UP = re.compile(r"Max retries exceeded|Retry\(total=0")
_NOTHING_THERE = "No matching distribution found"

DISK_FULL = "the disk is full"
_MOST_LINES = 400  # kept, of what pip prints
_LONGEST_REASON = 300
_TICK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PipLimits:
    """What one run of pip may take."""

    # pip's own timeout is 15 s, and its line "still running" comes every minute
    silence_s: float = 90.0  # without a line or new bytes
    downloading_s: float = 15.0  # the same, while a file is being downloaded
    crawl_bytes: int = 64 * KIB  # fewer are no new bytes
    scratch_bytes: int = 2 * GIB  # the engine's sources: 60 MB, and 0.4 GB unpacked
    memory_bytes: int = 2 * GIB  # pip reads a page of an index whole; usual are 0.1 GB


POLICY = Policy(attempts=3, backoff_s=1.0, deadline_s=120.0)  # around pip's own tries


def download(
    arguments: Sequence[str],
    scratch: Path,
    *,
    name: str,
    on_progress: OnProgress,
    keep_open: tuple[int, ...],
    limits: PipLimits,
) -> Trouble | None:
    """Run `pip download` with these arguments into `scratch`; return what went wrong.

    The reason is DISK_FULL, or the sha256 of a file that has another than was asked for, or a sentence.
    """
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
    command += ["--progress-bar", "raw" if _has(_RAW_PROGRESS) else "on", "--dest", str(scratch)]
    command += ["--resume-retries", "0", *arguments] if _has(_RESUMES) else arguments
    watch = _Watch(scratch, name, on_progress, limits)
    try:
        status = run_lines(
            command,
            on_line=watch.line,
            on_tick=watch.tick,
            tick_s=_TICK_S,
            # pip unpacks in TMPDIR, which may be a small RAM disk; the cache has space or nothing has
            env={**os.environ, "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"},
            keep_open=keep_open,
            memory_bytes=limits.memory_bytes,
        )
    except _OverLimitError as error:
        return error.trouble
    return None if status == 0 else watch.judge(status, limits)


def _has(since: tuple[int, int]) -> bool:
    numbers = re.findall(r"\d+", importlib.metadata.version("pip"))
    return tuple(map(int, numbers[:2])) >= since


class _OverLimitError(Exception):
    """pip is ended."""

    def __init__(self, kind: TroubleKind, reason: str) -> None:
        super().__init__(reason)
        self.trouble = Trouble(kind=kind, reason=reason)


@dataclass(slots=True)
class _Watch:
    """Follow one run of pip."""

    scratch: Path
    name: str
    on_progress: OnProgress
    limits: PipLimits
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_LINES))
    arrived: tuple[float, float] | None = None  # of the file, and of how much; in whatever unit
    heard: float = field(default_factory=time.monotonic)
    counted_bytes: int = 0

    def line(self, line: str) -> None:
        progress, bar = _PROGRESS.fullmatch(line.strip()), _LAST_BAR.search(line)
        if progress is not None:
            self._report(int(progress[1]), int(progress[2]) if progress[2] else None)
            return
        self.heard = time.monotonic()
        if bar is not None:
            self.arrived = float(bar[1]), float(bar[2])
        self.lines.append(line)

    def tick(self) -> None:
        """Raise _OverLimitError if pip has said and stored nothing for too long, or stored too much."""
        n_bytes, now = _bytes_below(self.scratch), time.monotonic()
        if n_bytes > self.limits.scratch_bytes:
            limit = format_bytes(self.limits.scratch_bytes)
            raise _OverLimitError(TroubleKind.TOO_LARGE, f"the index sends more than {limit}")
        if abs(n_bytes - self.counted_bytes) >= self.limits.crawl_bytes:
            self.counted_bytes, self.heard = n_bytes, now
        downloading = bool(self.lines) and self.lines[-1].lstrip().startswith("Downloading")
        patience_s = self.limits.downloading_s if downloading else self.limits.silence_s
        if now - self.heard >= patience_s:
            raise _OverLimitError(TroubleKind.GARBLED, "the index sends next to nothing")

    def judge(self, status: int, limits: PipLimits) -> Trouble:
        """Return what the failure of pip means."""
        text = "\n".join(self.lines)
        if _FULL.search(text):
            return Trouble(kind=TroubleKind.REFUSED, reason=DISK_FULL)
        if "MemoryError" in text:
            reason = (
                f"pip needs more than {format_bytes(limits.memory_bytes)} of memory for what the index sends"
            )
            return Trouble(kind=TroubleKind.TOO_LARGE, reason=reason)
        arrived = _incomplete(text) or self.arrived
        if arrived is not None and arrived[0] < arrived[1]:
            part = f"{100 * arrived[0] / arrived[1]:.0f} %"
            return Trouble(kind=TroubleKind.BROKE, reason=f"{self.name} broke off after {part}")
        if _MISMATCH in text:
            got = _GOT.search(text)
            return Trouble(kind=TroubleKind.GARBLED, reason=got[1] if got else "it has another sha256")
        reason = _last_words(list(self.lines)) or f"status {status}"
        if _GAVE_UP.search(text):
            return Trouble(kind=TroubleKind.REFUSED, reason=reason)
        # an index that is busy looks to pip like one that has nothing
        senseless = _NOTHING_THERE in text
        return Trouble(kind=TroubleKind.GARBLED if senseless else TroubleKind.BROKE, reason=reason)

    def _report(self, done: int, total: int | None) -> None:
        # The metadata hook's own small requirements report here as well; they are not the file.
        if total is None or total > MIB:
            step = Step(phase="download", done=done, total=total, unit="bytes", job=self.name)
            self.on_progress(step)
        if total:
            self.arrived = done, total


def _incomplete(text: str) -> tuple[float, float] | None:
    """Return how much of a file arrived, and of how much, as pip says it."""
    found = _INCOMPLETE.search(text)
    try:
        return found and (float(found[1]) * _THOUSANDS[found[2]], float(found[3]) * _THOUSANDS[found[4]])
    except ValueError:  # 1.2.3
        return None


def _last_words(lines: Sequence[str]) -> str:
    errors = [line for line in lines if line.lstrip().upper().startswith("ERROR")] or list(lines)
    last = errors[-1].strip() if errors else ""
    if last == "ERROR: Exception:":  # a traceback follows, whose last line says it
        last = next((line.strip() for line in reversed(lines) if line.strip()), last)
    # addresses are left out: the index's may carry a password
    words = _URL.sub("the index", last[:_LONGEST_REASON]).removeprefix("ERROR: ")
    return printable(words)


def _bytes_below(folder: Path) -> int:
    """Return the bytes of all files in or below the folder, as far as they can be seen."""
    total, folders = 0, [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:  # pip removed it meanwhile
            continue
    return total
