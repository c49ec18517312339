"""Read a build's output: how far ninja is, and why it stopped. PURE."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

ERROR_LINES = 6  # as many lines of a failed build as an error message can carry; the log has the rest

# NINJA_STATUS="[%f/%t] "
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


class BuildFault(StrEnum):
    """Why a build ended, as far as its output tells."""

    DISK = "disk"
    MEMORY = "memory"
    COMPILER = "compiler"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFailure:
    """A failed cmake or ninja run."""

    fault: BuildFault
    lines: tuple[str, ...]  # the last errors, oldest first, at most ERROR_LINES


def parse_step(line: str) -> tuple[int, int, str] | None:
    """Parse `[12/345] Building CXX object …` into 12, 345 and the rest."""
    match = _STEP.match(line)
    return (int(match[1]), int(match[2]), match[3]) if match else None


def read_failure(output: tuple[str, ...]) -> BuildFailure:
    """Read why a cmake or ninja run failed from its output."""
    text = "\n".join(output)
    return BuildFailure(fault=_fault(text), lines=_cmake_errors(output) or _compiler_errors(output))


def _fault(text: str) -> BuildFault:
    for pattern, fault in (
        (_DISK, BuildFault.DISK),
        (_MEMORY, BuildFault.MEMORY),
        (_NO_COMPILER, BuildFault.COMPILER),
    ):
        if pattern.search(text):
            return fault
    return BuildFault.CODE


def _cmake_errors(output: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first `CMake Error at FILE:LINE (command):` with the indented message below it."""
    # The first error is the cause; those below follow from it.
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
