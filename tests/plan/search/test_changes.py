"""What changes to the chosen plan cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.machine.machine import Machine
from launcher.plan.modes import CacheType, FlashAttention
from launcher.plan.plan import Plan
from launcher.plan.rope import Rope
from launcher.plan.search.changes import _moved
from launcher.plan.search.task import Offer
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB, format_bytes
from tests.plan.search.candidates_by_hand import candidate
from tests.plan.search.searches import choose, kimi, planned, small
from tests.plan.shapes import cards, device, machine, model


def test_a_change_names_the_expert_layers_it_costs() -> None:
    choice = choose(kimi()[:1], machine(device(0, 60 * GIB), ram_bytes=768 * GIB))
    change = next(change for change in choice.changes if change.flags == "-c 65536")
    more = planned(
        choose(
            kimi()[:1],
            machine(device(0, 60 * GIB), ram_bytes=768 * GIB),
            Workload(
                ctx_size=65536,
                cache_type_k=planned(choice).cache_type_k,
                ubatch_size=planned(choice).ubatch_size,
            ),
        )
    )
    lost = _tensors_on_host(more) - _tensors_on_host(planned(choice))
    assert lost > 0
    assert f"costs {f'{lost / 3:.1f}'.removesuffix('.0')} expert layer" in change.text
    assert "on CUDA0" in change.text


def _tensors_on_host(plan: Plan) -> int:
    """Up, down and gate experts of one size each."""
    parts = sum(len(kinds) for _, kinds in plan.placement.host_expert_parts)
    return 3 * len(plan.placement.host_expert_blocks) + parts


def test_a_change_is_predicted_for_the_plans_own_turn() -> None:
    whole = choose(
        small(), machine(), Workload(ctx_size=8192, cache_type_k=CacheType.F16, cache_type_v=CacheType.F16)
    )
    change = next(change for change in whole.changes if change.flags == "-c 4096")
    assert "still" in change.text
    assert ", both for a turn that it can hold, " in change.text


def asked(**fields: object) -> Workload:
    """8192 tokens of F16 caches at the usual micro-batch, on a model that could have many more."""
    usual = Workload(
        ctx_size=8192,
        rope=Rope(trained=1 << 20),
        ubatch_size=512,
        cache_type_k=CacheType.F16,
        cache_type_v=CacheType.F16,
    )
    return replace(usual, **fields)  # type: ignore[arg-type]


MOE = small()[:1]
DENSE = [Offer(quant="L", model=model("llama", n_block=64))]
MORE, HALF, Q8, LARGE = "+32k context", "half the context", "a KV cache of q8_0", "ubatch 2048"


@pytest.mark.parametrize(
    ("offers", "box", "effects"),
    [
        # 24 KiB a token, 15/32 less of them in q8_0.
        (
            MOE,
            machine(),
            {
                MORE: "takes 768.0 MiB of cache",
                HALF: "frees 96.0 MiB of cache",
                Q8: "frees 90.0 MiB of cache",
            },
        ),
        (
            MOE,
            machine(*cards(230)),
            {
                MORE: "costs 8 whole layers on devices",
                HALF: "brings 5 whole layers on devices",
                Q8: "brings 4 whole layers on devices",
                LARGE: "costs 5 whole layers on devices",
            },
        ),
        # Of both cards' last blocks tensors stay on the host: two of three, and one.
        (
            MOE,
            machine(*cards(400, 400)),
            {
                MORE: "costs 7 whole layers on devices",
                HALF: "brings 1 expert layer on CUDA0, CUDA1",
                Q8: "brings 0.7 expert layers on CUDA0",
                LARGE: "costs 5.7 expert layers on CUDA0, CUDA1",
            },
        ),
        (
            DENSE,
            machine(*cards(300, 300)),
            {
                MORE: "costs 64 whole layers on devices",
                HALF: "brings 1 whole layer on devices",
                Q8: "brings 1 whole layer on devices",
                LARGE: "costs 64 whole layers on devices",
            },
        ),
        (DENSE, machine(*cards(325, 325)), {HALF: "frees 1 device", Q8: "frees 1 device"}),
        (DENSE, machine(*cards(80)), {LARGE: "changes nothing that shows"}),
    ],
)
def test_a_change_says_what_it_moves(offers: list[Offer], box: Machine, effects: dict[str, str]) -> None:
    changes = choose(offers, box, asked()).changes
    assert all(change.fits for change in changes)
    said = [change.text.split(":")[0] for change in changes]
    for name, effect in effects.items():
        assert f"{name} {effect}" in said


def test_a_larger_cache_may_take_a_second_device() -> None:
    small_cache = asked(cache_type_k=CacheType.Q8_0, cache_type_v=CacheType.Q8_0)
    changes = choose(DENSE, machine(*cards(325, 325)), small_cache).changes
    assert any(change.text.startswith("a KV cache of f16 takes 1 device: ") for change in changes)


def flags(box: Machine, request: Workload) -> list[str]:
    return [change.flags for change in choose(MOE, box, request).changes]


@pytest.mark.parametrize(
    ("box", "request_", "expected"),
    [
        (machine(), asked(), ["-c 40960", "-c 4096", "-ctk q8_0 -ctv q8_0"]),
        (machine(), asked(rope=Rope(trained=40960)), ["-c 40960", "-c 4096", "-ctk q8_0 -ctv q8_0"]),
        (machine(), asked(rope=Rope(trained=40959)), ["-c 4096", "-ctk q8_0 -ctv q8_0"]),
        (machine(), asked(ctx_size=7936), ["-c 40704", "-ctk q8_0 -ctv q8_0"]),
        (machine(), asked(flash_attn=FlashAttention.OFF), ["-c 40960", "-c 4096"]),
        (
            machine(),
            asked(cache_type_k=CacheType.Q8_0, cache_type_v=CacheType.Q8_0),
            ["-c 40960", "-c 4096", "-ctk f16 -ctv f16"],
        ),
        (machine(*cards(900)), asked(), ["-c 40960", "-c 4096", "-ctk q8_0 -ctv q8_0", "-ub 2048"]),
        (
            machine(*cards(900)),
            asked(ubatch_size=2048),
            ["-c 40960", "-c 4096", "-ctk q8_0 -ctv q8_0", "-ub 512"],
        ),
        (
            machine(*cards(900)),
            asked(ubatch_size=1024),
            ["-c 40960", "-c 4096", "-ctk q8_0 -ctv q8_0", "-ub 512", "-ub 2048"],
        ),
    ],
)
def test_changes_that_are_worth_a_word(box: Machine, request_: Workload, expected: list[str]) -> None:
    assert flags(box, request_) == expected


def test_a_change_that_does_not_fit_says_by_how_much() -> None:
    box = machine(ram_bytes=1600 * MIB)
    change = choose(MOE, box, asked()).changes[0]
    short = choose(MOE, box, asked(ctx_size=40960)).shortfall
    assert short is not None
    assert not change.fits
    assert (
        change.text == f"+32k context does not fit: host would be {format_bytes(short.missing_bytes)} short"
    )
    assert change.decode_tps is None


@pytest.mark.parametrize(
    ("split", "experts", "words"),
    [
        ((10, 3), (0, 1), "brings 5 expert layers on CUDA0"),  # 8 there, and 3 fewer on CUDA1
        ((7, 6), (0, 1, 2, 3, 4, 5), "brings 1 expert layer on CUDA0"),
        ((7, 6), (1, 2, 3, 4, 5, 11), "brings 1 expert layer on CUDA0"),  # 2 there
        ((7, 6), (0, 1, 2, 3, 4, 5, 6, 7), "costs 1 expert layer on CUDA1"),
        ((7, 6), (0, 1, 2, 3, 4, 5, 7), ""),
        ((7, 6), (2, 3, 4, 5, 6), "brings 2 expert layers on CUDA0"),
        ((5, 8), (0, 1), "brings 5 expert layers on CUDA0, CUDA1"),
    ],
)
def test_expert_layers_are_counted_where_the_change_is(
    split: tuple[int, int], experts: tuple[int, ...], words: str
) -> None:
    """From seven blocks on CUDA0 and five on CUDA1, with all experts of CUDA0 on the host."""
    plain = candidate(0, 1).arrangement
    before = replace(
        plain,
        placement=replace(
            plain.placement,
            n_gpu_layers=13,
            devices=("CUDA0", "CUDA1"),
            tensor_split=(7, 6),
            host_expert_blocks=(0, 1, 2, 3, 4, 5, 6),
            host_expert_parts=(),
        ),
    )
    after = replace(
        before, placement=replace(before.placement, tensor_split=split, host_expert_blocks=experts)
    )
    assert _moved(before, after) == words
