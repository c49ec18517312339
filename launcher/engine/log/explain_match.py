"""Make the cause that a matched message of llama-server stands for. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from launcher.engine.log.cause import Cause, CauseKind
from launcher.units import MIB, format_bytes, printable

# Remedies.
SMALLER = "a shorter context (-c), a smaller quant or fewer slots take less"
FETCH_AGAIN = "fetch the file again"
ENGINE_INFO = "launcher engine info"
BUILD = "launcher engine build"
REPORT = "try launcher engine build; if it stays, the log is what llama.cpp's developers need"

_MAX_QUOTE = 400  # characters of a log that a sentence quotes

# what() of the exceptions that std::stoi and its like throw (libstdc++)
_NUMBER_READER = re.compile(r"sto(?:[ifdl]|ld|ll|ul|ull)")


def mask_unprintable(text: str) -> str:
    """Replace what is not printable. Logs quote bytes of files; no escape sequence may reach a terminal."""
    return printable(text[:_MAX_QUOTE]).strip()


def cause_of(kind: CauseKind, sentence: str, remedy: str | None = None) -> Callable[[re.Match[str]], Cause]:
    """Return a function that makes this cause, with the match's named groups filled into `sentence`."""

    def explain(match: re.Match[str]) -> Cause:
        groups = {name: mask_unprintable(text or "?") for name, text in match.groupdict().items()}
        return Cause(kind=kind, sentence=sentence.format(**groups), remedy=remedy)

    return explain


def out_of_memory(match: re.Match[str]) -> Cause:
    size = _size(match)
    request = "" if size is None else f": it could not allocate {format_bytes(size)}"
    device = match.groupdict().get("device")
    where = "" if not device else f" on {device if not device.isdigit() else f'device {device}'}"
    return Cause(
        kind=CauseKind.OUT_OF_MEMORY,
        sentence=f"llama-server ran out of memory{request}{where}",
        remedy=SMALLER,
        need_bytes=size,
    )


def bad_flag_value(match: re.Match[str]) -> Cause:
    flag, why = mask_unprintable(match["flag"]), mask_unprintable(match["why"])
    if _NUMBER_READER.fullmatch(why):  # for a bad number llama.cpp shows only the name of the C++ function
        why = "it is not a number that can be used"
    return Cause(
        kind=CauseKind.BAD_FLAG_VALUE,
        sentence=f"llama-server refuses the value of {flag}: {why}",
        remedy=f"{ENGINE_INFO} --json has the help of {flag}",
    )


def pinned_memory_refused(match: re.Match[str]) -> Cause:
    # A warning in llama.cpp, which goes on with pageable memory; the last message if that fails, too.
    size = _size(match)
    request = "" if size is None else f" {format_bytes(size)} of"
    return Cause(
        kind=CauseKind.PINNED_MEMORY,
        sentence=f"the driver refused{request} page-locked memory on the host",
        remedy="raise the limit on locked memory (ulimit -l), or -e GGML_CUDA_NO_PINNED=1",
        need_bytes=size,
    )


def _size(match: re.Match[str]) -> int | None:
    groups = match.groupdict()
    if groups.get("bytes"):
        return int(groups["bytes"])
    return int(float(groups["mib"].replace(",", ".")) * MIB) if groups.get("mib") else None
