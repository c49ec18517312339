"""Why a llama-server ended, as a value. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CauseKind(StrEnum):
    PORT_IN_USE = "port_in_use"
    UNKNOWN_FLAG = "unknown_flag"
    BAD_FLAG_VALUE = "bad_flag_value"
    MISSING_LIBRARY = "missing_library"
    UNKNOWN_ARCHITECTURE = "unknown_architecture"
    OUT_OF_MEMORY = "out_of_memory"
    PINNED_MEMORY = "pinned_memory"
    DRIVER = "driver"
    DEVICE_LOST = "device_lost"
    RPC_LOST = "rpc_lost"
    TEMPLATE = "template"
    UNSUPPORTED = "unsupported"
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


MEMORY_KINDS = frozenset({CauseKind.OUT_OF_MEMORY, CauseKind.PINNED_MEMORY})
"""Causes that a smaller plan cures."""

CERTAIN = frozenset(
    {
        CauseKind.PORT_IN_USE,
        CauseKind.UNKNOWN_FLAG,
        CauseKind.BAD_FLAG_VALUE,
        CauseKind.MISSING_LIBRARY,
        CauseKind.UNKNOWN_ARCHITECTURE,
        CauseKind.BAD_FILE,
        CauseKind.TEMPLATE,
        CauseKind.UNSUPPORTED,
    }
)
"""Causes that the very same command meets again."""
