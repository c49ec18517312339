"""What claims reserve beyond what their processes take."""

from __future__ import annotations

import os
from dataclasses import replace

from launcher.deployment.claims import Claim
from launcher.deployment.identity import ProcessId, identify
from launcher.deployment.reserved import count_reserved
from launcher.plan.amounts import RAM


def me() -> ProcessId:
    found = identify(os.getpid())
    assert found is not None
    return found


def test_what_is_taken_is_not_counted_twice() -> None:
    loading = Claim(name="a", process=me(), rows={"GPU-1": 10, RAM: 1 << 50})
    loaded = replace(loading, loaded=True)
    assert count_reserved((loading,)).rows["GPU-1"] == 10
    assert "GPU-1" not in count_reserved((loaded,)).rows
    assert 0 < count_reserved((loaded,)).rows[RAM] < 1 << 50
    assert count_reserved((loading, loading)).rows["GPU-1"] == 20
    assert count_reserved((replace(loading, rows={RAM: 1}),)).rows == {}
