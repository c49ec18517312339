"""Kinds of trouble on a connection, and the wait before the next try. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from launcher.models.transfer.tuning import Tuning


class TroubleKind(StrEnum):
    BROKE = "broke"  # no connection, reset, silence, a body shorter than it should be
    BUSY = "busy"  # 408, 425, 429, 5xx: later
    LINK = "link"  # what the address redirected to refuses: a signed link that has expired
    IGNORES_RANGES = "ignores ranges"  # 200 and the file from its start
    MISFIT = "misfit"  # another size than listed, another range than asked for
    REFUSED = "refused"  # the address itself says no: final
    CHANGED = "changed"  # another version than a moment ago: final
    HASH = "hash"  # all bytes are here and their sha256 is another: decided by the caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One failure of a request."""

    kind: TroubleKind
    reason: str
    status: int | None = None  # the answer's, if there was one; so are `headers`
    headers: tuple[tuple[str, str], ...] = ()
    url: str = ""  # who gave the answer
    retry_after_s: float | None = None

    @property
    def is_final(self) -> bool:
        # another try would end the same
        return self.kind in {TroubleKind.REFUSED, TroubleKind.CHANGED, TroubleKind.HASH}


def wait_after(trouble: Trouble, failures_before: int, tuning: Tuning, dice: float) -> float | None:
    """Return the seconds until the next try, or None to give up. `dice` in [0, 1) spreads the tries."""
    limit = tuning.link_attempts if trouble.kind is TroubleKind.LINK else tuning.attempts
    asked = trouble.retry_after_s or 0.0
    if trouble.is_final or failures_before + 1 >= limit or asked > tuning.longest_wait_s:
        return None
    if trouble.kind is TroubleKind.LINK and failures_before == 0:  # the address gives a new link at once
        return 0.0
    # Exponential backoff with jitter of half to one and a half of it, so that many clients of a server that
    # comes back do not come back together; never less than the server asked for.
    backoff = min(tuning.backoff_s * 2.0**failures_before, tuning.longest_backoff_s)
    return max(asked, backoff * (0.5 + dice))
