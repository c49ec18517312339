"""Which machines a cluster has, by flags and by file."""

from __future__ import annotations

import pytest

from launcher.errors import UsageError
from launcher.machine.fleet import FleetEntry, fleet_of_refs, parse_fleet

FILE = """
[[machine]]
machine = "8xh100-80g"
count = 2
zone = "a"
domain = "rack1"

[[machine]]
name = "old box"
machine = "machines/2x3090.toml"
"""


def test_a_file_lists_machines() -> None:
    assert parse_fleet(FILE, "fleet.toml") == (
        FleetEntry(name="8xh100-80g-1", ref="8xh100-80g", zone="a", domain="rack1"),
        FleetEntry(name="8xh100-80g-2", ref="8xh100-80g", zone="a", domain="rack1"),
        FleetEntry(name="old-box", ref="machines/2x3090.toml"),
    )


def test_flags_name_machines_apart() -> None:
    entries = fleet_of_refs(["a", "./b.toml", "a"])

    assert [(entry.name, entry.ref) for entry in entries] == [("a-1", "a"), ("b", "./b.toml"), ("a-2", "a")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "machine"),
        ("machine = []", "machine"),
        ("[[machine]]\nname = 'a'", "machine"),
        ("[[machine]]\nmachine = 'a'\ncount = 0", "count"),
        ("[[machine]]\nmachine = 'a'\ncount = 1.5", "count"),
        ("[[machine]]\nmachine = 'a'\ncount = 1000000", "count"),
        ("[[machine]]\nmachine = 'a'\ncount = 1024\n[[machine]]\nmachine = 'b'", "more than 1024"),
        ("[[machine]]\nmachine = 'a'\nrack = 'b'", "rack"),
        ("[[machine]]\nmachine = 'a'\ncount = 2\n[[machine]]\nmachine = 'a-1'", "called a-1"),
    ],
)
def test_a_file_that_says_it_wrongly_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_fleet(text, "fleet.toml")

    assert said in raised.value.message
