"""stop as a user meets it."""

from __future__ import annotations

from tests.cli.shell import launcher


def test_several_are_stopped_at_once_and_each_that_is_not_there_is_named() -> None:
    done = launcher("stop", "one", "two")
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "error: no deployment is called two; there is none",
        "error: no deployment is called one; there is none",
        "hint: launcher up smollm2-135m",
    ]
