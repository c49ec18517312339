"""The table of the pinned engine's flags, against its `--help`."""

from __future__ import annotations

from launcher.engine.flags.command_line import arities_of
from launcher.engine.flags.pinned_flags import PINNED_ARITIES, REMOVED_FLAGS
from tests.engine.flags.captured_help import PINNED_OPTIONS


def test_the_table_is_the_pinned_engines_help() -> None:
    assert arities_of(PINNED_OPTIONS) == PINNED_ARITIES


def test_flags_that_are_gone_are_gone_and_what_replaced_them_is_there() -> None:
    assert not set(REMOVED_FLAGS) & set(PINNED_ARITIES)
    replacements = {now.split()[0] for _, now in REMOVED_FLAGS.values()} - {"nothing:"}
    assert replacements <= set(PINNED_ARITIES)
