"""A rank takes the place of an earlier one of its name at once, and of no later one."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.deployment import takedown
from launcher.deployment.cluster.rank import _fence
from launcher.deployment.options import SupervisorOptions
from launcher.deployment.record import Phase
from launcher.deployment.records import find_record, hold_start, make_private, save_record
from launcher.errors import UsageError
from tests.deployment.recorded import NOBODY, a_deployment

EARLIER = SupervisorOptions(epoch=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_private(tmp_path / "deployments")
    return tmp_path / "deployments"


def test_one_that_was_killed_is_forgotten_without_waiting(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds the lock of a name must not wait for somebody else to forget it."""
    killed = a_deployment("m.0", phase=Phase.READY, process=NOBODY, supervisor=NOBODY, options=EARLIER)
    save_record(folder, killed)
    monkeypatch.setattr(takedown.time, "sleep", lambda _: pytest.fail("somebody is waited for"))
    with hold_start(folder, "m.0"):
        _fence(folder, "m.0", 2)
    assert find_record(folder, "m.0") is None


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_later_one_stays(folder: Path, epoch: int) -> None:
    save_record(folder, a_deployment("m.0", process=NOBODY, supervisor=NOBODY, options=EARLIER))
    with pytest.raises(UsageError, match="is not later"):
        _fence(folder, "m.0", epoch)
    assert find_record(folder, "m.0") is not None
