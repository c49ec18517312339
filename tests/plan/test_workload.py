"""A request as records of deployments keep it."""

from __future__ import annotations

import json

import pytest

from launcher.plan.modes import CacheType, FlashAttention, TensorOverride
from launcher.plan.workload import Workload, as_recorded

USUAL = {
    "ctx_size": None,
    "n_parallel": 1,
    "cache_type_k": None,
    "cache_type_v": None,
    "batch_size": None,
    "ubatch_size": None,
    "flash_attn": None,
    "cache_ram_bytes": None,
    "load_mode": None,
    "prefer": "balanced",
    "min_tps": None,
    "numa": None,
    "extras": [],
    "overrides": [],
    "rope": {"scaling": None, "freq_scale": None, "original_ctx": None, "trained": None},
}


@pytest.mark.parametrize(
    ("workload", "changed"),
    [
        (Workload(), {}),
        (Workload(ctx_size=8192, cache_type_k=CacheType.Q8_0), {"ctx_size": 8192, "cache_type_k": "q8_0"}),
        (Workload(flash_attn=FlashAttention.ON), {"flash_attn": True}),
        (Workload(flash_attn=FlashAttention.OFF), {"flash_attn": False}),
        (
            Workload(overrides=(TensorOverride(pattern="a", where="host"),)),
            {"overrides": [{"pattern": "a", "where": "host"}]},
        ),
    ],
)
def test_a_record_keeps_the_keys_it_was_hashed_with(workload: Workload, changed: dict[str, object]) -> None:
    assert json.loads(json.dumps(as_recorded(workload))) == {**USUAL, **changed}
