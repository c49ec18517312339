"""What was measured of a machine: kept, read back, used on the same machine only."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.machine.measured import Measured, format_measured, link_key, parse_measured, with_measured
from launcher.plan.forecast.processors import host_processor, node_processor, processor_of
from launcher.units import GIB
from tests.plan.shapes import device, machine

BOX = machine()
HERE = Measured(
    date="2026-11-30",
    cpu=BOX.cpu.name,
    ram_total_bytes=BOX.ram_total_bytes,
    threads=8,
    ram_rate=40 * 10**9,
    disk_rate=None,
    core_rates=(("Q4_0", 15 * 10**9), ("IQ2_XXS", 4 * 10**9)),
    node_rates=(("0", 18 * 10**9), ("1", 17 * 10**9)),
    attention_rates=(("F16 64", 5 * 10**7), ("F16 64 far", 4 * 10**7)),
)


def test_it_is_read_back_as_it_was() -> None:
    assert parse_measured(format_measured(HERE)) == HERE


@given(st.one_of(st.text(), st.binary().map(lambda raw: raw.decode("latin-1"))))
def test_any_text_is_read_or_ignored(text: str) -> None:
    assert parse_measured(text) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", 2), ("date", "x" * 9), ("date", "2026\\n11-30"), ("date", 5), ("cpu", 5), ("ram_rate", -1),
        ("ram_rate", 10**15), ("ram_rate", 1.5), ("ram_rate", True), ("threads", None), ("ram_total_bytes", 0),
        ("core_rates", []), ("core_rates", {"Q4_0": 0}), ("core_rates", {"Q4_0": 1.5}), ("core_rates", {"\n": 1}),
        ("attention_rates", []), ("attention_rates", {"F16 64": 0}), ("links", []), ("links", {"CUDA0 a card": 0}),
    ],
)  # fmt: skip
def test_a_value_that_no_measurement_gives_is_ignored(field: str, value: object) -> None:
    document = json.loads(format_measured(HERE)) | {field: value}
    assert parse_measured(json.dumps(document)) is None


def test_a_measured_host_is_as_fast_as_it_was_measured() -> None:
    measured = with_measured(BOX, HERE)
    host = host_processor(measured, 8)
    assert host.bandwidth == 40e9 / 0.85
    assert host.known
    assert node_processor(measured, 4, 2).bandwidth == 17e9 / 0.85
    assert any("17.0 GB/s of node 1 alone" in note for note in measured.notes)
    assert host.attention_rates == HERE.attention_rates
    assert host.source == "from 40 GB/s measured"
    assert any("measured on 2026-11-30: 40.0 GB/s from RAM with 8 threads" in note for note in measured.notes)


@pytest.mark.parametrize(
    "other",
    [
        replace(HERE, cpu="another CPU"),
        replace(HERE, ram_total_bytes=BOX.ram_total_bytes + 4 * GIB),
        replace(HERE, ram_rate=None),
        None,
    ],
)
def test_another_machine_s_measurement_is_not_used(other: Measured | None) -> None:
    assert with_measured(BOX, other) == BOX


def test_a_measured_link_is_the_card_s_that_it_was_measured_to() -> None:
    card = device(0, 24 * GIB)
    found = replace(HERE, links=((link_key(card), 12 * 10**9),))
    assert parse_measured(format_measured(found)) == found
    with_card = with_measured(replace(BOX, devices=(card,)), found)
    assert processor_of(with_card.devices[0]).link_rate == 12e9
    other = replace(card, name="another card")
    with_other = with_measured(replace(BOX, devices=(other,)), found)
    assert processor_of(with_other.devices[0]).link_rate is None
