"""What `history` answers about a name that never ran."""

from __future__ import annotations

from tests.cli.shell import launcher


def test_a_name_that_was_never_loaded_is_no_empty_history() -> None:
    done = launcher("history", "nope")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == "error: no load of nope is recorded here\nhint: launcher history\n"
    assert launcher("history").returncode == 0
