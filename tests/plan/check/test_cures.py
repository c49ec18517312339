"""One flag that makes a line fit: named where it does, and true when it is added."""

from __future__ import annotations

import re

import pytest

from launcher.machine.machine import Machine
from launcher.plan.check.check import Check
from launcher.units import GIB
from tests.plan.check.checks import verdict
from tests.plan.shapes import cards, machine


def cure_of(found: Check) -> str | None:
    match = re.search(r"short[^;]*; (.*) cures it$", found.reasons[0])
    return match[1] if match else None


@pytest.mark.parametrize(
    ("line", "box", "name", "flag"),
    [
        ("-c 8192 -ngl 99 -fit off", machine(*cards(330)), "deepseek2", "-ncmoe"),
        ("-c 8192 -ngl 99 -fit off", machine(*cards(270, 270)), "qwen3moe", "-ncmoe"),
        ("-c 4096 -ngl 99 -fit off -ts 9,1", machine(*cards(40, 40)), "gemma3", None),
        ("-c 8192 -np 1 -cram 0 -ngl 99 -fit off", machine(*cards(220)), "qwen3moe", "-ngl"),
        ("-c 131072 -np 1 -cram 0 -ngl 99 -fit off", machine(*cards(680)), "llama", "-c"),
    ],
)
def test_what_is_named_cures_it(line: str, box: Machine, name: str, flag: str | None) -> None:
    short = verdict(line, box, name=name)
    cure = cure_of(short)
    if short.fits:
        pytest.fail(f"it fits: {short.ledger}")
    if flag is not None:
        assert cure is not None, short.reasons
        assert cure.startswith(flag)
    if cure is not None:
        assert verdict(f"{line} {cure}", box, name=name).fits


def test_nothing_is_named_where_nothing_helps() -> None:
    short = verdict("-c 4096 -cram 0", machine(ram_bytes=GIB), name="deepseek2")
    assert not short.fits
    assert cure_of(short) is None
