"""When an engine that sends nothing is taken for frozen."""

from __future__ import annotations

from launcher.gateway.silence import Seen, Silence, SilenceLimits

LIMITS = SilenceLimits()
NOTHING = Seen(cpu_s=7.0)


def looked_on(seconds: float, *seen: Seen, silence: Silence | None = None) -> Silence:
    """Look every two seconds, and see these in turn."""
    silence = silence or Silence()
    for number in range(int(seconds / LIMITS.look_s)):
        silence = silence.after(LIMITS.look_s, seen[number % len(seen)], LIMITS)
    return silence


def test_without_a_sign_of_life_it_is_frozen_after_a_minute() -> None:
    assert looked_on(58, NOTHING).problem(LIMITS) is None
    assert looked_on(60, NOTHING).problem(LIMITS) == "llama-server gave no sign of life for 60 s"
    assert looked_on(60, Seen(cpu_s=None)).problem(LIMITS) is not None  # nobody can tell
    # what threads that wait take is no sign
    idle = [Seen(cpu_s=7.0 + number / 100) for number in range(30)]
    assert looked_on(60, *idle).problem(LIMITS) is not None


def test_any_sign_of_life_counts() -> None:
    well, round_again = Seen(answers_health=True), Seen(came_round=True)
    assert looked_on(1700, NOTHING, NOTHING, well).problem(LIMITS) is None
    assert looked_on(1e5, NOTHING, round_again).problem(LIMITS) is None
    silence = Silence()
    for number in range(800):  # it computes, and all its threads are busy
        silence = silence.after(2.0, Seen(cpu_s=float(number)), LIMITS)
        assert silence.problem(LIMITS) is None, number


def test_one_batch_may_not_last_for_ever() -> None:
    well = Seen(answers_health=True)
    assert looked_on(1798, well).problem(LIMITS) is None
    assert looked_on(1800, well).problem(LIMITS) == "llama-server worked on one batch for 1800 s"


def test_a_gateway_that_was_stopped_itself_has_seen_nothing() -> None:
    assert Silence().after(1e6, NOTHING, LIMITS).problem(LIMITS) is None
