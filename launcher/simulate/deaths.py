"""Say how a worker process ended, and whether llama.cpp refused the model by it."""

from __future__ import annotations

import re
import signal

from launcher.units import one_line

_MAX_ABORT_TEXT = 400  # characters
# the folder the engine was built in, before `file:line: GGML_ASSERT(…)`
_SOURCE_FOLDER = re.compile(r"^\S*/(?=[\w.-]+:\d+: )")  # over at most _MAX_ABORT_TEXT characters
# What llama.cpp says where the worker's own memory is used up: C++, ggml_init.
_OUT_OF_MEMORY = ("std::bad_alloc", "mem_buffer != NULL")


def is_refusal(status: int, stderr: list[str]) -> bool:
    """Return True if llama.cpp itself ended the worker, by an abort or a segmentation fault."""
    # SIGKILL comes from the kernel's out-of-memory killer or from somebody else
    if any(map(is_out_of_memory, stderr)):
        return False
    return -status in {signal.SIGABRT, signal.SIGSEGV} or bool(_aborts(stderr))


def describe_death(status: int, stderr: list[str]) -> str:
    """Describe in one sentence how a worker ended, with ggml's abort text if there is one."""
    lines = [line.strip() for line in stderr if line.strip()]
    aborts = _aborts(lines)
    if status < 0:
        name = signal.Signals(-status).name
        how = f"it was ended by {name}"
    else:
        how = f"it exited with status {status}"
    words = one_line((aborts or lines or [""])[0 if aborts else -1], _MAX_ABORT_TEXT)
    return f"{how}: {_SOURCE_FOLDER.sub('', words, count=1)}" if words else how


def is_out_of_memory(text: str) -> bool:
    return any(words in text for words in _OUT_OF_MEMORY)


def _aborts(lines: list[str]) -> list[str]:
    return [line for line in lines if "GGML_ASSERT" in line or "GGML_ABORT" in line or "what():" in line]
