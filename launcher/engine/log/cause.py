"""The cause of a llama-server's end, as a value. Pure."""

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
    """Why a llama-server ended, and what to try."""

    kind: CauseKind
    sentence: str  # without a full stop
    remedy: str | None = None  # None: only the log can tell
    # If memory is the cause, and as far as the log tells:
    where: str | None = None  # the ledger's row: a device's id, or plan.HOST
    part: str | None = None  # of that row, which was requested: "weights", "kv", "compute"
    need_bytes: int | None = None  # the request that failed
    had_bytes: int | None = None  # what the row had taken before it


# Causes that a smaller plan cures.
MEMORY_KINDS = frozenset({CauseKind.OUT_OF_MEMORY, CauseKind.PINNED_MEMORY})
