"""ik_llama.cpp's memory by our laws, compared with its own server's log (CPU, ik-llama-cpp-python 0.1.5)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.gguf.header import Header, parse_header
from launcher.gguf.model import ModelFile, Shard
from launcher.plan.amounts import HOST
from launcher.plan.memory.ik import as_read, unpacked_latents
from launcher.plan.modes import CacheType, Dialect
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB
from tests.make_gguf import make_shards
from tests.plan.planned import make_plan
from tests.plan.shapes import architecture_of, machine, parameters

Q8 = CacheType.Q8_0


def model_of(architecture: str, preset: str, **numbers: int) -> ModelFile:
    (shard,) = make_shards(architecture, preset=preset, numbers=numbers)
    header = parse_header(shard.header)
    assert isinstance(header, Header)
    files = (Shard(name=shard.name, size_bytes=shard.size_bytes),)
    return ModelFile(model_id="m", source="path", shards=files, headers=(header,))


KIMI = ("deepseek2", "kimi-k2.5", {"n_block": 3, "n_expert": 16})
QWEN = ("qwen3moe", "qwen3-235b", {"n_block": 3})
DEEPSEEK, MOE = ("deepseek2", "mini", {}), ("qwen3moe", "mini", {})
GEMMA, LLAMA = ("gemma3", "mini", {}), ("llama", "mini", {})


@pytest.mark.parametrize(
    ("shape", "asked", "logged"),
    [
        # (weights with those computed at the start, KV, compute and output) in MiB
        (KIMI, {"ctx_size": 4096}, (3960.86, 13.50, 468.78)),
        (KIMI, {"ctx_size": 32768}, (3960.86, 108.00, 944.78)),
        (KIMI, {"ctx_size": 65536, "cache_type_k": Q8, "cache_type_v": Q8}, (3960.86, 114.75, 826.78)),
        (KIMI, {"ctx_size": 32768, "ubatch_size": 2048}, (3960.86, 108.00, 1336.63)),
        (QWEN, {"ctx_size": 4096}, (5372.05, 24.00, 313.33)),
        (QWEN, {"ctx_size": 65536, "cache_type_k": Q8, "cache_type_v": Q8}, (5372.05, 204.00, 313.33)),
        (QWEN, {"ctx_size": 32768, "ubatch_size": 2048}, (5372.05, 192.00, 1251.58)),
        (DEEPSEEK, {"ctx_size": 4096}, (250.54, 36.00, 61.09)),
        (DEEPSEEK, {"ctx_size": 8192, "ubatch_size": 1024}, (250.54, 72.00, 130.18)),
        (MOE, {"ctx_size": 4096}, (310.48, 96.00, 20.01)),
        (MOE, {"ctx_size": 8192, "ubatch_size": 1024}, (310.48, 192.00, 48.01)),
        (GEMMA, {"ctx_size": 8192, "ubatch_size": 1024}, (3.55, 12.00, 37.01)),
        (LLAMA, {"ctx_size": 4096, "cache_type_k": Q8, "cache_type_v": Q8}, (3.33, 2.13, 6.51)),
    ],
)
def test_caches_and_weights_are_its_own_and_compute_is_never_less(
    shape: tuple[str, str, dict[str, int]], asked: dict[str, object], logged: tuple[float, float, float]
) -> None:
    architecture, preset, numbers = shape
    workload = replace(Workload(dialect=Dialect.IK), **asked)
    plan = make_plan(model_of(architecture, preset, **numbers), "q", machine(ram_bytes=64 * GIB), workload)
    assert isinstance(plan, Plan)
    (row,) = plan.ledger
    assert row.where == HOST
    weights, kv, compute = logged
    assert row.weights.n_bytes / MIB == pytest.approx(weights, abs=0.02)
    assert row.kv.n_bytes / MIB == pytest.approx(kv, abs=0.02)
    most = (row.compute.n_bytes + row.compute.band_bytes) / MIB
    assert compute <= row.compute.n_bytes / MIB * 1.01
    assert most < 6 * compute + 32


def test_heads_are_unpacked_a_part_at_a_time() -> None:
    architecture = architecture_of(model_of("deepseek2", "kimi-k2.5"))
    ik = replace(parameters(65536), dialect=Dialect.IK)
    # 8 of 64 heads are 512 MiB as F32, and as much again in F16
    assert unpacked_latents(architecture, ik) == 1024 * MIB
    assert unpacked_latents(architecture, replace(ik, ctx_size=1024)) == 64 * 1024 * 2048
    assert unpacked_latents(architecture, parameters(65536)) == 0
    assert unpacked_latents(architecture_of(model_of("qwen3moe", "mini")), ik) == 0


def test_an_old_conversion_is_read_as_mla() -> None:
    new = architecture_of(model_of("deepseek2", "mini"))
    assert new.mla is not None
    assert as_read(new) == new
    old = replace(
        new,
        mla=None,
        n_embd_head_k=new.mla.key_length,
        n_embd_head_v=new.mla.value_length,
        n_head_kv=new.n_head,
    )
    read = as_read(old)
    assert read.mla is not None
    assert (read.mla.key_length, read.n_embd_head_k, read.n_head_kv) == (
        new.mla.key_length,
        new.n_embd_head_k,
        new.n_head_kv,
    )
    assert as_read(replace(old, name="qwen3moe")).mla is None
