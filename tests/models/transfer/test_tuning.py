"""How hard a transfer tries."""

from __future__ import annotations

import pytest

from launcher.models.transfer.tuning import Tuning, connections_for


@pytest.mark.parametrize(
    ("cores", "connections"), [(1, 4), (2, 4), (3, 6), (5, 10), (8, 16), (9, 16), (96, 16)]
)
def test_two_connections_a_core_within_bounds(cores: int, connections: int) -> None:
    assert connections_for(cores) == connections


def test_a_killed_pull_fetches_8_mib_a_connection_again_and_after_a_power_loss_128() -> None:
    usual = Tuning()
    assert (usual.unit_bytes, usual.span_bytes) == (8 << 20, 128 << 20)
    assert usual.buffer_bytes == 1 << 20


def test_less_than_64_kib_is_as_good_as_nothing() -> None:
    usual = Tuning()
    assert (usual.crawl_bytes, usual.worthwhile_bytes) == (65536, 65536)
