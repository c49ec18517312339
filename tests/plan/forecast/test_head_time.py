"""One core's time for a cached token of a head."""

from __future__ import annotations

import pytest

from launcher.plan.forecast.head_time import head_time
from launcher.plan.modes import CacheType

NS = 10**9
# 20, 30 and 90 ns; from RAM 25 and 130
RATES = {
    "F16 64": NS // 20, "F16 128": NS // 30, "F16 544": NS // 90,
    "F16 64 far": NS // 25, "F16 128 far": NS // 130,
}  # fmt: skip


@pytest.mark.parametrize(
    ("size", "near", "far"),
    [
        (64, 20, 5),
        (128, 30, 100),
        (96, 25, 52.5),  # half way between those measured
        (32, 10, 2.5),  # half of the least
        (544, 90, 130 * 544 / 128 - 90),
    ],
)
def test_times_lie_between_those_of_the_measured_heads(size: int, near: float, far: float) -> None:
    time = head_time(size, CacheType.F16, RATES)
    assert time.near == pytest.approx(near / NS, rel=0.01)
    assert time.far == pytest.approx(far / NS, rel=0.01)


def test_each_type_has_its_own_time() -> None:
    rates = RATES | {"Q8_0 64": NS // 40, "Q4_0 64": NS // 80}
    assert head_time(64, CacheType.Q8_0, rates).near == pytest.approx(40 / NS)
    assert head_time(64, CacheType.Q5_1, rates).near == pytest.approx(80 / NS)  # counts as Q4_0
    assert head_time(64, CacheType.Q8_0, rates).far is None


def test_without_a_measurement_the_usual_time_counts() -> None:
    usual = head_time(128, CacheType.F16, {})
    assert usual.near == pytest.approx(31 / NS, rel=0.05)
    assert usual.far is None
    assert head_time(128, CacheType.F16, {}, 0.5).near == usual.near / 2
    assert head_time(128, CacheType.F16, RATES, 0.5).near == pytest.approx(30 / NS, rel=0.01)
    assert usual.near < head_time(128, CacheType.Q8_0, {}).near < head_time(128, CacheType.Q4_1, {}).near


def test_what_is_nearer_than_near_costs_nothing_more() -> None:
    assert head_time(64, CacheType.F16, {"F16 64": 100, "F16 64 far": 200}).far == 0.0
