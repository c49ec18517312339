"""Decide after a failed network read: wait for the next try, or give up. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from launcher.system.network.trouble import Trouble, TroubleKind
from launcher.units import KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How hard a read is tried, and what it may take. The defaults are for a look-up of a few KiB."""

    patience_s: float = 10.0  # silence that ends a connection (huggingface_hub's DEFAULT_REQUEST_TIMEOUT)
    # Fewer bytes than this in a window end a connection, and so does a single read that takes as long.
    crawl_window_s: float = 10.0
    crawl_bytes: int = 16 * KIB
    deadline_s: float = 300.0  # for all tries, and all requests of one read: pages, ranges

    # With the backoff doubling, four tries are given up after about four seconds of waiting.
    attempts: int = 4
    # Of those, where nobody can be reached: without a network the answer is wanted at once.
    unreachable_attempts: int = 2
    # Of those, where the same server answers what makes no sense: it rarely gets better.
    senseless_attempts: int = 2
    link_attempts: int = 3  # of those, for a signed link that is refused
    backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    longest_wait_s: float = 60.0  # the longest wait that a server may ask for

    def attempts_at(self, kind: TroubleKind) -> int:
        match kind:
            case TroubleKind.UNREACHABLE:
                return self.unreachable_attempts
            case TroubleKind.MISFIT | TroubleKind.VAGUE | TroubleKind.GARBLED:
                return self.senseless_attempts
            case TroubleKind.LINK:
                return self.link_attempts
            case _:
                return self.attempts


LOOK_UP = Policy()
NO_DEADLINE = math.inf


def wait_after(
    trouble: Trouble, failures_before: int, policy: Policy, dice: float, elapsed_s: float = 0.0
) -> float | None:
    """Return the seconds until the next try, or None to give up. `dice` in [0, 1) spreads the tries."""
    asked = trouble.retry_after_s or 0.0
    if trouble.is_final or failures_before + 1 >= policy.attempts_at(trouble.kind):
        return None
    if asked > policy.longest_wait_s:
        return None
    if trouble.kind is TroubleKind.LINK and failures_before == 0:  # the address gives a new link at once
        wait = asked
    else:
        # Exponential backoff with jitter of half to one and a half of it, so that many clients of a server
        # that comes back do not come back together; never less than the server asked for.
        backoff = min(policy.backoff_s * 2.0**failures_before, policy.longest_backoff_s)
        wait = max(asked, backoff * (0.5 + dice))
    return None if elapsed_s + wait >= policy.deadline_s else wait
