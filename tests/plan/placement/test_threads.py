"""The number of threads."""

from __future__ import annotations

import pytest

from launcher.machine.machine import Cpu
from launcher.plan.placement.threads import choose_threads
from tests.plan.shapes import eight_cores


@pytest.mark.parametrize(
    ("cpu", "threads"),
    [
        (eight_cores(), 8),
        (eight_cores(performance=None), 8),
        (eight_cores(quota=2.5), 2),
        (eight_cores(quota=0.5), 1),
        (eight_cores(affinity=3), 3),
        (
            Cpu(
                name=None,
                physical_cores=None,
                performance_cores=None,
                logical_cores=6,
                affinity=6,
                quota=None,
                isa=(),
            ),
            6,
        ),
    ],
)
def test_threads_are_cores_that_can_be_used(cpu: Cpu, threads: int) -> None:
    count, reason = choose_threads(cpu)
    assert count == threads
    assert reason.startswith(f"{threads} thread{'s' * (threads > 1)}, as many as ")


def test_a_few_are_enough_where_the_host_computes_nothing() -> None:
    assert choose_threads(eight_cores(), computes=False) == (
        4,
        "4 threads of 8: the host computes nothing, and more would only wait",
    )
    assert choose_threads(eight_cores(quota=2.0), computes=False)[0] == 2
