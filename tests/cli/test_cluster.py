"""`launcher cluster` before any machine was added."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from tests.cli.shell import launcher


def test_ls_shows_this_machine_and_how_to_add_another() -> None:
    done = launcher("cluster", "ls", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "no other machine: launcher cluster add user@host"
    assert [each["name"] for each in json.loads(launcher("cluster", "ls", "--json").stdout)] == ["here"]


def test_a_plan_over_no_other_machine_is_refused() -> None:
    done = launcher("plan", "smollm2-135m", "--cluster")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, "hint: launcher cluster add user@host")


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
@pytest.mark.parametrize("words", [("start",), ("join", "127.0.0.1", "--token-file", "ray.token")])
def test_without_ray_its_install_command_is_the_hint(words: tuple[str, ...]) -> None:
    done = launcher("cluster", *words)
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        ["error: Ray is not installed", "hint: pip install 'gguf-launcher[cluster]'"],
    )


def test_leaving_no_cluster_by_ray_is_refused() -> None:
    done = launcher("cluster", "leave")
    assert done.returncode == 2
    assert "this machine is in no cluster by Ray" in done.stderr
