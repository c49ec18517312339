"""Find out why llama-server ended, from its log and its exit status. Pure."""

from __future__ import annotations

import re
import signal
from dataclasses import replace

from launcher.engine.log.cause import MEMORY_KINDS, Cause, CauseKind
from launcher.engine.log.complaints import COMPLAINTS
from launcher.engine.log.explain_match import BUILD, REPORT, SMALLER, mask_unprintable
from launcher.engine.log.load_log import row_of, usage_of_row
from launcher.engine.log.vllm_log import diagnose_vllm, is_of_vllm
from launcher.plan.amounts import HOST
from launcher.units import format_bytes


def diagnose(log: str, exit_code: int | None, *, by_kernel: bool | None = None) -> Cause:
    """Return the cause of the end. `exit_code` is negative for a signal, None if not known.

    `by_kernel` tells if the memory cgroup counted an out-of-memory kill meanwhile, None if none counts.
    """
    for_memory = exit_code == -signal.SIGKILL and by_kernel  # whatever was logged before
    known = None if for_memory else diagnose_vllm(log)
    cause = known or _diagnose(log, exit_code, by_kernel=by_kernel)
    if is_of_vllm(log):
        return replace(cause, sentence=cause.sentence.replace("llama-server", "vLLM"))
    return cause


def _diagnose(log: str, exit_code: int | None, *, by_kernel: bool | None) -> Cause:
    if exit_code == -signal.SIGKILL and by_kernel:
        return _killed_for_memory(log)
    final = _REFUSED_PINNING.sub("Failed to allocate pinned memory.", _RETRIED.split(log)[-1])
    for pattern, explain in COMPLAINTS:
        match = pattern.search(final)
        if match is not None:
            cause = explain(match)
            return _with_place(cause, log, final, match) if cause.kind in MEMORY_KINDS else cause
    if exit_code is not None and exit_code < 0:
        return _signalled(-exit_code)
    how = "ended" if exit_code is None else f"exited with status {exit_code}"
    last = _last_error(log)
    return Cause(kind=CauseKind.OTHER, sentence=f"llama-server {how}" + (f": {last}" if last else ""))


# src/llama-context.cpp, sched_reserve: what failed before this line is tried again, smaller.
_RETRIED = re.compile(r"compute buffer allocation failed, retrying without pipeline parallelism")
# ggml-vulkan.cpp, ggml_vk_host_malloc: a warning that looks like the error; pageable memory is taken instead.
_REFUSED_PINNING = re.compile(r"Failed to allocate pinned memory\.\n.{0,300}ErrorOutOf\w{1,40}Memory")


def _killed_for_memory(log: str) -> Cause:
    usage = usage_of_row(log, HOST)
    had = None if usage is None else usage.used_bytes
    so_far = "" if not had else f" after it had taken {format_bytes(had)}"
    return Cause(
        kind=CauseKind.OUT_OF_MEMORY,
        sentence=f"the kernel killed llama-server: its memory limit was reached{so_far}",
        remedy=SMALLER,
        where=HOST,
        had_bytes=had,
    )


def _signalled(number: int) -> Cause:
    if number == signal.SIGKILL:
        return Cause(
            kind=CauseKind.KILLED,
            sentence="llama-server was killed by signal 9, as the kernel does when memory runs out",
            remedy=SMALLER,
        )
    if number == signal.SIGILL:
        return Cause(
            kind=CauseKind.UNSUPPORTED,
            sentence="llama-server was built for another processor: it met an instruction this one lacks",
            remedy=BUILD,
        )
    if number == signal.SIGSEGV:
        return Cause(
            kind=CauseKind.ASSERTION,
            sentence="llama-server crashed (segmentation fault)",
            remedy=REPORT,
        )
    try:
        name = f" ({signal.Signals(number).name})"
    except ValueError:
        name = ""
    return Cause(kind=CauseKind.KILLED, sentence=f"llama-server was ended by signal {number}{name}")


def _with_place(cause: Cause, log: str, final: str, match: re.Match[str]) -> Cause:
    """Add the ledger row, the part and size of the request, and what the row had taken by then."""
    named = _NAMED_BUFFER.search(final)
    groups = match.groupdict()
    if named is not None:
        where: str | None = row_of(named["name"])
    elif (device := groups.get("device")) is not None:
        where = f"{'ROCm' if 'ROCm' in log else 'CUDA'}{device}" if device.isdigit() else row_of(device)
    else:
        where = next((row for mark, row in _ROW_MARKS if mark in final), None)
    usage = None if where is None else usage_of_row(log, where)
    had = None if usage is None else usage.used_bytes
    need = cause.need_bytes or (int(named["bytes"]) if named is not None else None)
    after = final[final.rfind("\n", 0, match.start()) + 1 :]
    part = next((part for mark, part in _PART_MARKS if mark in after), None)
    so_far = f", with {format_bytes(had)} taken there before" if had and where != HOST else ""
    return replace(
        cause, sentence=cause.sentence + so_far, where=where, need_bytes=need, had_bytes=had, part=part
    )


# ggml-alloc.c, alloc_tensor_range and ggml_gallocr_reserve_n_impl: the device by its name.
_NAMED_BUFFER = re.compile(r"failed to allocate (?P<name>[A-Z]\S{0,99}) buffer of size (?P<bytes>\d{1,20})")
_ROW_MARKS = (
    ("unable to allocate CPU", HOST),
    ("ggml_backend_cpu_buffer_type_alloc_buffer", HOST),
    ("std::bad_alloc", HOST),
    ("ggml_aligned_malloc", HOST),
    ("mmap failed", HOST),
    ("pinned memory", HOST),
    ("ggml_metal", "Metal"),
)
_PART_MARKS = (
    ("kv cache", "kv"),
    ("self-attention cache", "kv"),
    ("compute", "compute"),
    ("graph", "compute"),
    ("error loading model", "weights"),
)


# What common/log.cpp puts before a line: time, level, component.
_PREFIX = re.compile(r"^[\d.]{1,20} (?P<level>[A-Z]) (?:\w{1,40} {1,16})?")


def _last_error(log: str) -> str:
    """Return the last line marked as an error, else the last line."""
    lines = [mask_unprintable(line) for line in log.splitlines() if line.strip()]
    marked = [line for line in lines if (match := _PREFIX.match(line)) is not None and match["level"] == "E"]
    chosen = (marked or lines)[-1:]
    return _PREFIX.sub("", chosen[0])[:200] if chosen else ""
