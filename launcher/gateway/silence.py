"""Tell a frozen engine from one that thinks for long, by its signs of life. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

_MOVED_CPU_S = 1.0  # less is noise: threads that wait take some, too


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceLimits:
    look_s: float = 2.0  # between two looks
    quiet_s: float = 10.0  # without a byte, until signs of life are looked for
    dead_s: float = 60.0  # without any sign
    # Between two batches llama-server comes round to other questions. A batch takes minutes where weights are
    # read from a disk: as long as `up` waits for a load in which only CPU time passes.
    stuck_s: float = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of an engine since the last look, in which it sent nothing that was waited for."""

    answers_health: bool = False  # by threads of their own
    came_round: bool = False  # its loop answered
    cpu_s: float | None = None  # so far; None if nobody can tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Seconds that were looked on: a gateway that was stopped itself has seen nothing meanwhile."""

    dead_s: float = 0.0  # without any sign of life
    stuck_s: float = 0.0  # in which its loop did not come round
    cpu_s: float | None = None  # when it last moved

    def after(self, passed_s: float, seen: Seen, limits: SilenceLimits) -> Silence:
        """Return the silence after another look."""
        passed_s = min(passed_s, 2 * limits.look_s)
        moved = seen.cpu_s is not None and self.cpu_s is not None and seen.cpu_s - self.cpu_s >= _MOVED_CPU_S
        lives = seen.came_round or seen.answers_health or moved
        return replace(
            self,
            dead_s=0.0 if lives else self.dead_s + passed_s,
            stuck_s=0.0 if seen.came_round else self.stuck_s + passed_s,
            cpu_s=seen.cpu_s if moved or self.cpu_s is None else self.cpu_s,
        )

    def problem(self, limits: SilenceLimits) -> str | None:
        """Say why nothing is expected of the engine any more; None while it may still answer."""
        if self.dead_s >= limits.dead_s:
            return f"llama-server gave no sign of life for {limits.dead_s:.0f} s"
        if self.stuck_s >= limits.stuck_s:
            return f"llama-server worked on one batch for {limits.stuck_s:.0f} s"
        return None
