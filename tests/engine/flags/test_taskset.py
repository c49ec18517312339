"""Command lines bound to CPUs."""

from __future__ import annotations

import pytest

from launcher.engine.flags.taskset import split_taskset, taskset_prefix

COMMAND = ("/opt/llama-server", "-m", "a.gguf")


@pytest.mark.parametrize(("cpus", "listed"), [((0,), "0"), ((0, 1, 2, 8), "0-2,8")])
def test_what_is_bound_can_be_read_back(cpus: tuple[int, ...], listed: str) -> None:
    prefix = taskset_prefix(cpus)
    assert prefix == ("/usr/bin/taskset", "--cpu-list", listed)
    assert split_taskset([*prefix, *COMMAND]) == (listed, COMMAND)


def test_no_cpus_bind_nothing() -> None:
    assert taskset_prefix(()) == ()
    assert split_taskset(COMMAND) == (None, COMMAND)
