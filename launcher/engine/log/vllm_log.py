"""Find out why vLLM ended, from its log. Pure.

Messages of vLLM 0.32; each is in the log of a real end, or stands in its source (file beside it).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from launcher.engine.log.cause import Cause, CauseKind
from launcher.engine.log.explain_match import cause_of

_IS_VLLM = re.compile(r"^\((?:APIServer|EngineCore|Worker)[^)\n]{0,40} pid=\d{1,10}\)", re.MULTILINE)
_SMALLER = "a shorter context (-c) takes less, or more GPUs"

# The first that matches wins, so causes stand before their consequences.
_COMPLAINTS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Cause]], ...] = (
    (  # v1/worker/utils.py
        re.compile(
            r"Free memory on device (?P<device>\S{1,40}) \((?P<free>[\d.]{1,12})/(?P<total>[\d.]{1,12}) "
            r"GiB\) on startup is less than desired"
        ),
        cause_of(
            CauseKind.OUT_OF_MEMORY,
            "vLLM found {free} of {total} GiB free on {device}, less than the share it was to take",
            "end what else is on the GPU (nvidia-smi), or start it again: the plan takes what is free then",
        ),
    ),
    (  # v1/core/kv_cache_utils.py
        re.compile(
            r"max seq len \((?P<ctx>\d{1,12})\), \((?P<need>[\d.]{1,12}) GiB KV cache is needed, which is "
            r"larger than the available KV cache memory \((?P<had>[\d.]{1,12}) GiB\)"
        ),
        cause_of(
            CauseKind.OUT_OF_MEMORY,
            "vLLM has {had} GiB left for its cache, and a context of {ctx} tokens takes {need} GiB",
            _SMALLER,
        ),
    ),
    (  # the same
        re.compile(r"No available memory for the cache blocks"),
        cause_of(CauseKind.OUT_OF_MEMORY, "vLLM has no memory left for its cache", _SMALLER),
    ),
    (  # torch
        re.compile(
            r"OutOfMemoryError: (?:CUDA|HIP) out of memory\. Tried to allocate (?P<size>[\d.]{1,12} \w{3})"
        ),
        cause_of(
            CauseKind.OUT_OF_MEMORY, "vLLM ran out of GPU memory: it could not allocate {size}", _SMALLER
        ),
    ),
    (  # asyncio
        re.compile(r"\[Errno 98\] .{0,80}address already in use", re.IGNORECASE),
        cause_of(CauseKind.PORT_IN_USE, "its port was taken by another process", "choose another --port"),
    ),
    (  # the first error of a worker is the cause, those of its parents are consequences
        re.compile(
            r"^\((?:Worker|EngineCore)[^\n]{0,120} ERROR [^\n]{0,80}\] "
            r"(?P<error>\w{1,60}Error: [^\n]{1,300})",
            re.MULTILINE,
        ),
        cause_of(CauseKind.OTHER, "vLLM ended: {error}"),
    ),
    (  # v1/engine/exceptions.py; killed from outside, no process says more
        re.compile(r"\bEngineDeadError: "),
        cause_of(CauseKind.OTHER, "one of vLLM's processes ended, and vLLM with it"),
    ),
    (
        re.compile(r"^(?:\(APIServer[^)\n]{0,40}\) )?(?P<error>\w{1,60}Error: [^\n]{1,300})", re.MULTILINE),
        cause_of(CauseKind.OTHER, "vLLM ended: {error}"),
    ),
)


def is_of_vllm(log: str) -> bool:
    return _IS_VLLM.search(log) is not None


def diagnose_vllm(log: str) -> Cause | None:
    """Return the cause of vLLM's end; None for another program's log, and where nothing in it tells."""
    if not is_of_vllm(log):
        return None
    for pattern, explain in _COMPLAINTS:
        if (match := pattern.search(log)) is not None:
            return explain(match)
    return None
