"""Why llama-server ended, from what it logged and how it exited. Pure.

The patterns are llama.cpp's own messages at commit 0c1e570 (file and function beside each) and those of the
systems below it. The first that matches wins, so causes stand before their consequences.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from launcher.units import MIB, format_bytes


class CauseKind(StrEnum):
    PORT_IN_USE = "port_in_use"
    UNKNOWN_FLAG = "unknown_flag"
    BAD_FLAG_VALUE = "bad_flag_value"
    MISSING_LIBRARY = "missing_library"
    UNKNOWN_ARCHITECTURE = "unknown_architecture"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"
    BAD_FILE = "bad_file"
    ASSERTION = "assertion"
    STALLED = "stalled"
    NO_ANSWER = "no_answer"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """`sentence` has no full stop; `remedy` is what to try, None where only the log can tell.

    Where memory is the cause: `where` is the ledger's row (a device's id, or plan.HOST), `part` the amount in it
    that was asked for ("weights", "kv", "compute"), `need_bytes` the request that failed, `had_bytes` what that
    row had taken before it. None where the log does not tell.
    """

    kind: CauseKind
    sentence: str
    remedy: str | None = None
    where: str | None = None
    part: str | None = None
    need_bytes: int | None = None
    had_bytes: int | None = None


_SMALLER = "a shorter context (-c), a smaller quant or fewer slots take less"
_FETCH_AGAIN = "fetch the file again"
_FLAGS = "launcher engine info"


def diagnose(log: str, exit_code: int | None, *, by_kernel: bool | None = None) -> Cause:
    """The cause, from the log's end and the exit status (negative: the signal; None: not known). `by_kernel` is
    whether its memory cgroup counted a kill for want of memory meanwhile; None where nobody counts."""
    for pattern, explain in _TABLE:
        match = pattern.search(log)
        if match is not None:
            return explain(match)
    if exit_code is not None and exit_code < 0:
        return _signalled(-exit_code)
    how = "ended" if exit_code is None else f"exited with status {exit_code}"
    last = _last_error(log)
    return Cause(kind=CauseKind.OTHER, sentence=f"llama-server {how}" + (f": {last}" if last else ""))


def _signalled(number: int) -> Cause:
    if number == signal.SIGKILL:
        return Cause(
            kind=CauseKind.KILLED,
            sentence="llama-server was killed by signal 9, as the kernel does when memory runs out",
            remedy=_SMALLER,
        )
    try:
        name = f" ({signal.Signals(number).name})"
    except ValueError:
        name = ""
    return Cause(kind=CauseKind.KILLED, sentence=f"llama-server was ended by signal {number}{name}")


_PREFIX = re.compile(r"^[\d.]+ (?P<level>[A-Z]) (?:\w+ +)?")
"""What common/log.cpp puts before a line: time, level, component."""


def _last_error(log: str) -> str:
    """The last line llama-server marked as an error, else its last line."""
    lines = [_printable(line) for line in log.splitlines() if line.strip()]
    marked = [line for line in lines if (match := _PREFIX.match(line)) is not None and match["level"] == "E"]
    chosen = (marked or lines)[-1:]
    return _PREFIX.sub("", chosen[0])[:200] if chosen else ""


def _printable(text: str) -> str:
    """Logs may quote a file's bytes; an escape sequence must not reach the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text).strip()


def _of(kind: CauseKind, sentence: str, remedy: str | None = None) -> Callable[[re.Match[str]], Cause]:
    """A cause whose `sentence` has the match's named groups filled in."""

    def explain(match: re.Match[str]) -> Cause:
        groups = {name: _printable(text or "?") for name, text in match.groupdict().items()}
        return Cause(kind=kind, sentence=sentence.format(**groups), remedy=remedy)

    return explain


def _out_of_memory(match: re.Match[str]) -> Cause:
    groups = match.groupdict()
    if groups.get("bytes"):
        size: int | None = int(groups["bytes"])
    else:
        size = int(float(groups["mib"]) * MIB) if groups.get("mib") else None
    wanted = "" if size is None else f": it could not allocate {format_bytes(size)}"
    device = groups.get("device")
    where = "" if not device else f" on {device if not device.isdigit() else f'device {device}'}"
    return Cause(
        kind=CauseKind.OUT_OF_MEMORY,
        sentence=f"llama-server ran out of memory{wanted}{where}",
        remedy=_SMALLER,
    )


_TABLE: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Cause]], ...] = (
    (  # ld.so(8)
        re.compile(r"error while loading shared libraries: (?P<library>[^:\s]+):"),
        _of(
            CauseKind.MISSING_LIBRARY,
            "llama-server needs the shared library {library}, which is not there",
            "launcher engine build",
        ),
    ),
    (  # dyld(1)
        re.compile(r"Library not loaded: (?P<library>\S+)"),
        _of(
            CauseKind.MISSING_LIBRARY,
            "llama-server needs the shared library {library}, which is not there",
            "launcher engine build",
        ),
    ),
    (  # ld.so(8), a binary from a newer system
        re.compile(r"version `(?P<version>[^']+)' not found"),
        _of(
            CauseKind.MISSING_LIBRARY,
            "llama-server was built for a newer system: it needs {version}",
            "launcher engine build",
        ),
    ),
    (  # common/arg.cpp, common_params_parse_ex
        re.compile(r"error: invalid argument: (?P<flag>.+)"),
        _of(CauseKind.UNKNOWN_FLAG, "this llama-server does not know {flag}", _FLAGS),
    ),
    (  # the same
        re.compile(r'error while handling argument "(?P<flag>[^"]+)": (?P<why>.+)'),
        _of(CauseKind.BAD_FLAG_VALUE, "llama-server refuses the value of {flag}: {why}", _FLAGS),
    ),
    (  # tools/server/server-http.cpp, server_http_context::start
        re.compile(r"couldn't bind HTTP server socket, hostname: (?P<host>\S+), port: (?P<port>\d+)"),
        _of(
            CauseKind.PORT_IN_USE,
            "port {port} on {host} was taken by another process",
            "choose another --port",
        ),
    ),
    (  # src/llama-model.cpp, llama_model_base
        re.compile(r"unknown model architecture: '(?P<architecture>[^']*)'"),
        _of(
            CauseKind.UNKNOWN_ARCHITECTURE,
            "this llama-server does not know the model architecture {architecture}",
            "it needs a newer engine (--engine)",
        ),
    ),
    (  # ggml-cuda.cu, ggml_backend_cuda_buffer_type_alloc_buffer
        re.compile(r"allocating (?P<mib>[\d.]+) MiB on device (?P<device>\d+): cudaMalloc failed"),
        _out_of_memory,
    ),
    (  # ggml-alloc.c, alloc_tensor_range
        re.compile(r"failed to allocate (?P<device>\S+) buffer of size (?P<bytes>\d+)"),
        _out_of_memory,
    ),
    (  # ggml-vulkan-buffers.cpp, ggml_vk_create_buffer_device and its callers
        re.compile(r"ggml_vulkan: (?:Device m|M)emory allocation of size (?P<bytes>\d+) failed"),
        _out_of_memory,
    ),
    (  # ggml.c, ggml_aligned_malloc
        re.compile(r"insufficient memory \(attempted to allocate +(?P<mib>[\d.]+) MB\)"),
        _out_of_memory,
    ),
    (  # Vulkan, CUDA, libstdc++, llama-context.cpp, ggml-alloc.c, llama-model.cpp, llama-mmap.cpp
        re.compile(
            r"ErrorOutOfDeviceMemory|ErrorOutOfHostMemory|CUDA error: out of memory|std::bad_alloc"
            r"|failed to allocate compute (?:pp |tg )?buffers|graph allocation: failed to reserve memory"
            r"|unable to allocate (?P<device>\S+) buffer|mmap failed: Cannot allocate memory"
        ),
        _out_of_memory,
    ),
    (  # src/llama-model-loader.h, llama_tensor_weight
        re.compile(r"tensor '(?P<tensor>[^']*)' data is not within the file bounds"),
        _of(
            CauseKind.BAD_FILE,
            "the model file is incomplete: tensor {tensor} lies beyond its end",
            _FETCH_AGAIN,
        ),
    ),
    (  # ggml/src/gguf.cpp, gguf_init_from_reader
        re.compile(r"invalid magic characters: '.*', expected 'GGUF'"),
        _of(
            CauseKind.BAD_FILE,
            "the model file is not a GGUF file: it does not begin with GGUF",
            _FETCH_AGAIN,
        ),
    ),
    (  # ggml/src/gguf.cpp, gguf_init_from_file
        re.compile(r"failed to open GGUF file '(?P<path>[^']*)' \((?P<why>[^)]*)\)"),
        _of(CauseKind.BAD_FILE, "the model file {path} cannot be opened: {why}"),
    ),
    (  # ggml/src/gguf.cpp, gguf_init_from_reader: every other way a header can be wrong
        re.compile(r"gguf_init_from_\w+: (?P<why>failed to read .+)"),
        _of(CauseKind.BAD_FILE, "the model file's header is damaged: {why}", _FETCH_AGAIN),
    ),
    (  # src/llama-model-loader.cpp and llama-model.cpp, whatever else they throw
        re.compile(r"llama_model_load: error loading model: (?P<why>.+)"),
        _of(CauseKind.BAD_FILE, "llama-server cannot load the model: {why}"),
    ),
    (  # ggml/src/ggml.c, ggml_abort
        re.compile(r"(?P<place>\S+:\d+): (?P<what>GGML_ASSERT\(.*\) failed|fatal error|.* error)"),
        _of(CauseKind.ASSERTION, "llama-server stopped at {place}: {what}"),
    ),
)
