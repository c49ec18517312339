"""`launcher cluster` before any machine was added."""

from __future__ import annotations

import json

from tests.cli.shell import launcher


def test_ls_shows_this_machine_and_how_to_add_another() -> None:
    done = launcher("cluster", "ls", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "no other machine: launcher cluster add user@host"
    assert [each["name"] for each in json.loads(launcher("cluster", "ls", "--json").stdout)] == ["here"]


def test_a_plan_over_no_other_machine_is_refused() -> None:
    done = launcher("plan", "smollm2-135m", "--cluster")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, "hint: launcher cluster add user@host")
