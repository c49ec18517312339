"""A request settled as parameters that llama.cpp accepts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.errors import UsageError
from launcher.plan.modes import CacheType, FlashAttention
from launcher.plan.placement.settle import (
    ContextChoice,
    check_context_limit,
    choose_contexts,
    describe_pool,
    settle,
)
from launcher.plan.workload import Workload
from launcher.units import MIB
from tests.plan.shapes import architecture_of, model, parameters

LLAMA, MLA = architecture_of(model("llama")), architecture_of(model("deepseek2"))


@pytest.mark.parametrize(
    ("asked", "default", "trained", "sizes"),
    [
        (5000, 9000, 8192, (5120,)),  # in steps of 256
        (None, 9000, 8192, (9216,)),
        (None, None, 8192, (8192, 4096)),
        (None, None, 8191, (8192, 4096)),
        (None, None, 100000, (32768, 16384, 8192, 4096)),
        (None, None, 32768, (32768, 16384, 8192, 4096)),
        (None, None, 0, (32768, 16384, 8192, 4096)),
        (None, None, 7000, (7168,)),  # half of it would be less than 4096
    ],
)
def test_contexts_to_try(
    asked: int | None, default: int | None, trained: int, sizes: tuple[int, ...]
) -> None:
    found = choose_contexts(replace(LLAMA, n_ctx_train=trained), Workload(ctx_size=asked), default)
    assert found.sizes == sizes
    why = (
        "as asked"
        if asked
        else "the profile's default"
        if default
        else f"the smaller of the {trained} the model"
    )
    assert found.reason_for(sizes[0]).startswith(why)
    if len(sizes) > 1:
        assert found.reason_for(sizes[1]) == f"nobody asked for one, and {sizes[0]} does not fit"


def refused(size: int, limit: int, n_parallel: int) -> str | None:
    contexts = ContextChoice(sizes=(size,), reason="as asked")
    try:
        check_context_limit(model("llama"), limit, contexts, Workload(n_parallel=n_parallel))
    except UsageError as error:
        return f"{error.message}; {error.hint}"
    return None


def test_a_pool_holds_no_more_than_its_requests_can_use() -> None:
    assert refused(8192, 8192, 1) is None
    assert refused(4 * 8192, 8192, 4) is None
    assert refused(8192, 8000, 1) is None  # padded
    assert refused(1 << 30, 0, 1) is None  # a model that names none
    assert refused(8448, 8192, 0) is None  # refused elsewhere
    text = refused(8448, 8192, 1)
    assert text is not None
    assert text.startswith("a context of 8448 tokens: llama-mini was trained for 8192")
    assert "-c 8192, or add -- --rope-scaling yarn" in text
    text = refused(4 * 8192 + 256, 8192, 4)
    assert text is not None
    assert text.startswith("a context of 33024 tokens for 4 requests: ")
    assert text.endswith(
        "; -c 32768, or add -- --rope-scaling yarn --rope-scale 4 (stretched: it answers, how well is not known)"
    )


def settled(**fields: object) -> tuple[int, int, CacheType, CacheType, FlashAttention]:
    found = settle(LLAMA, Workload(**fields), 4096).parameters  # type: ignore[arg-type]
    return found.batch_size, found.ubatch_size, found.cache_type_k, found.cache_type_v, found.flash_attn


def test_batches_and_types_that_nobody_asked_for_are_usual() -> None:
    f16 = CacheType.F16
    assert settled() == (2048, 512, f16, f16, FlashAttention.AUTO)
    assert settled(ubatch_size=4096) == (4096, 4096, f16, f16, FlashAttention.AUTO)
    assert settled(batch_size=256) == (256, 256, f16, f16, FlashAttention.AUTO)
    assert settled(batch_size=1000, ubatch_size=100)[:2] == (1000, 100)
    assert settled(cache_type_k=CacheType.Q8_0)[2:] == (CacheType.Q8_0, f16, FlashAttention.AUTO)
    assert settled(cache_type_v=CacheType.Q8_0)[2:] == (f16, CacheType.Q8_0, FlashAttention.ON)
    assert settled(cache_type_v=CacheType.BF16, flash_attn=FlashAttention.OFF)[4] is FlashAttention.OFF
    assert settle(LLAMA, Workload(n_parallel=1), 4096).parameters.n_parallel == 1


@pytest.mark.parametrize(
    ("asked", "both"),
    [
        (Workload(), CacheType.F16),
        (Workload(cache_type_k=CacheType.Q8_0), CacheType.Q8_0),
        (Workload(cache_type_v=CacheType.Q8_0), CacheType.Q8_0),
        (Workload(cache_type_k=CacheType.Q8_0, cache_type_v=CacheType.Q8_0), CacheType.Q8_0),
    ],
)
def test_one_latent_has_one_type(asked: Workload, both: CacheType) -> None:
    found = settle(MLA, asked, 4096)
    assert (found.parameters.cache_type_k, found.parameters.cache_type_v) == (both, both)
    assert found.reasons == ("K and V cache types are equal: the model keeps one latent for both (MLA)",)
    assert settle(LLAMA, asked, 4096).reasons == ()


def test_heads_must_divide_into_blocks() -> None:
    odd = replace(LLAMA, n_embd_head_k=48, n_embd_head_v=64)
    with pytest.raises(
        UsageError, match="q8_0 needs heads of a multiple of 32, and this model's have 48"
    ) as error:
        settle(odd, Workload(cache_type_k=CacheType.Q8_0), 4096)
    assert error.value.hint == "-ctk f16"
    assert settle(odd, Workload(cache_type_v=CacheType.Q8_0), 4096)
    with pytest.raises(UsageError, match="have 48") as error:
        settle(replace(odd, n_embd_head_k=64, n_embd_head_v=48), Workload(cache_type_v=CacheType.Q8_0), 4096)
    assert error.value.hint == "-ctv f16"


def test_a_pool_says_what_one_request_gets() -> None:
    one = parameters(8192)
    assert describe_pool(one, MIB, "as asked", 8192) == (
        "context 8192, as asked: one request of 8192 tokens guaranteed; its cache takes 1.0 MiB"
    )
    assert "one request of 8000 tokens guaranteed" in describe_pool(one, MIB, "x", 8000)
    assert "one request of 8192 tokens guaranteed" in describe_pool(one, MIB, "x", 0)
    four = parameters(8192, n_parallel=4)
    shared = "4 at once share it: 4 requests of 2048 tokens guaranteed"
    assert f"one request can use all of it, {shared}" in describe_pool(four, MIB, "x", 8192)
    assert f"one request can use 4096 tokens, what the model was trained for, {shared}" in describe_pool(
        four, MIB, "x", 4096
    )
