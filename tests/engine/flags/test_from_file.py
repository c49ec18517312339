"""Flags of a lock, a profile or a record, which somebody else may have written."""

from __future__ import annotations

import pytest

from launcher.engine.flags.from_file import check_flags_from_file
from launcher.errors import UsageError


@pytest.mark.parametrize("flags", ["", "--temp 0.6 --top-k 20 --jinja", "-ctk q8_0 -fa on --ctx_size 4096"])
def test_how_a_model_computes_may_come_from_a_file(flags: str) -> None:
    check_flags_from_file(flags.split(), "m.lock")


@pytest.mark.parametrize(
    ("flags", "named", "why"),
    [
        ("--temp 1 --tools all", "--tools", "lets clients act on this machine"),
        ("--slot-save-path /etc", "--slot-save-path", "names files of this machine"),
        ("--host 0.0.0.0", "--host", "changes who may ask the server, and how"),
        ("--host=0.0.0.0", "--host", "changes who may ask the server, and how"),
        ("--api_key x", "--api-key", "changes who may ask the server, and how"),
        ("--frobnicate 3", "--frobnicate", "is a flag that launcher does not know"),
        ("stray", "stray", "is a flag that launcher does not know"),
    ],
)
def test_what_acts_on_this_machine_has_to_be_typed(flags: str, named: str, why: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_flags_from_file(flags.split(), "m.lock")
    assert (
        refused.value.message
        == f"m.lock has the flag {named!r}, which {why}: it counts only when you type it"
    )
