"""What a build's output says: how far ninja is, and why it stopped. PURE."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

ERROR_LINES = 6
"""As many lines of a failed build as an error message can carry; the log has the rest."""

_STEP = re.compile(r"\[(\d+)/(\d+)\] (.*)")
_COMPILER_ERROR = re.compile(
    r"(?:^|[\s:])(?:fatal error|error|Error):|undefined reference|ld returned|LNK\d{4}"
)
_NINJA_FAILED = re.compile(r"FAILED: |ninja: (?:error|build stopped)")
_DISK = re.compile(r"No space left on device|Disk quota exceeded|error writing to .*: File too large")
_MEMORY = re.compile(
    r"Killed signal terminated program|internal compiler error: Killed|virtual memory exhausted|"
    r"cannot allocate memory|out of memory allocating",
    re.IGNORECASE,
)
_NO_COMPILER = re.compile(
    r"is not able to compile a simple test program|No CMAKE_CXX_COMPILER could be found"
)


class Cause(StrEnum):
    """Why a build ended, as far as its output tells."""

    DISK = "disk"
    MEMORY = "memory"
    COMPILER = "compiler"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """`lines` are the last errors, oldest first, at most ERROR_LINES of them."""

    cause: Cause
    lines: tuple[str, ...]


def parse_step(line: str) -> tuple[int, int, str] | None:
    """A line of ninja, `[12/345] Building CXX object …` with NINJA_STATUS="[%f/%t] " -> 12, 345, the rest."""
    match = _STEP.match(line)
    return (int(match[1]), int(match[2]), match[3]) if match else None


def explain(output: tuple[str, ...]) -> Failure:
    """The cause and the telling lines of a failed cmake or ninja run."""
    text = "\n".join(output)
    return Failure(cause=_cause(text), lines=_cmake_errors(output) or _compiler_errors(output))


def _cause(text: str) -> Cause:
    for pattern, cause in ((_DISK, Cause.DISK), (_MEMORY, Cause.MEMORY), (_NO_COMPILER, Cause.COMPILER)):
        if pattern.search(text):
            return cause
    return Cause.CODE


def _cmake_errors(output: tuple[str, ...]) -> tuple[str, ...]:
    """`CMake Error at FILE:LINE (command):` and the indented message below it; the first is the cause."""
    start = next((i for i, line in enumerate(output) if line.startswith("CMake Error")), None)
    if start is None:
        return ()
    block = [output[start]]
    for line in output[start + 1 :]:
        if line and not line.startswith(" "):
            break
        if line.strip():
            block.append(line.strip())
    return tuple(block[:ERROR_LINES])


def _compiler_errors(output: tuple[str, ...]) -> tuple[str, ...]:
    telling = [line.strip() for line in output if _COMPILER_ERROR.search(line) or _MEMORY.search(line)]
    telling = telling or [line.strip() for line in output if _NINJA_FAILED.search(line)]
    telling = telling or [line.strip() for line in output if line.strip()]
    return tuple(telling[-ERROR_LINES:])
