"""One model on several machines."""

from __future__ import annotations

import pytest

from launcher.commands.compare_machines import (
    compare_machines,
    comparison_document,
    fits_somewhere,
)
from launcher.commands.here import here_with
from launcher.commands.planned import PlanRequest
from launcher.errors import NotFound, UsageError

KIMI = PlanRequest(ref="kimi-k2.5")


def test_machines_stand_side_by_side_in_the_order_given() -> None:
    compared = compare_machines(here_with(offline=True), KIMI, ["8xh200-141g", "laptop-16g", "8xh200-141g"])
    rows = comparison_document(compared)["machines"]
    assert [row["machine"] for row in rows] == ["8xh200-141g", "laptop-16g"]
    fast, small = rows
    assert fast["fits"] in {True, None}  # without an engine it is not simulated
    assert fast["quant"] == "INT4"
    assert fast["forecast"]["decode_tps"]["mid"] > 10
    assert (small["fits"], small["quant"], small["forecast"]) == (False, None, None)
    assert "short" in small["lack"]
    assert fits_somewhere(compared)
    assert not fits_somewhere(compared[1:])


def test_an_unknown_machine_is_named() -> None:
    with pytest.raises(NotFound, match="no machine is called 'nosuch'"):
        compare_machines(here_with(offline=True), KIMI, ["nosuch"])


def test_there_is_an_end_to_machines() -> None:
    with pytest.raises(UsageError, match="25 machines"):
        compare_machines(here_with(offline=True), KIMI, ["here"] * 25)
