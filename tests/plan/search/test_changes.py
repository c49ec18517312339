"""What changes to the chosen plan cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST
from launcher.plan.modes import CacheType, FlashAttention
from launcher.plan.plan import Plan
from launcher.plan.rope import Rope
from launcher.plan.search.task import Offer
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB, format_bytes
from tests.plan.search.searches import choose, kimi, planned, small
from tests.plan.shapes import cards, device, machine, model


def test_a_change_names_the_weights_it_moves() -> None:
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
    moved = _on_devices(planned(choice)) - _on_devices(more)
    assert moved > GIB
    assert f"moves {format_bytes(moved)} of weights to RAM from the GPU" in change.text


def _on_devices(plan: Plan) -> int:
    return sum(row.weights.n_bytes for row in plan.ledger if row.where != HOST)


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
                MORE: "moves 39.2 MiB of weights to RAM from the GPU",
                HALF: "moves 27.2 MiB of weights from RAM to the GPU",
                Q8: "moves 21.8 MiB of weights from RAM to the GPU",
                LARGE: "moves 27.2 MiB of weights to RAM from the GPU",
            },
        ),
        # Of both cards' last blocks tensors stay on the host: two of three, and one.
        (
            MOE,
            machine(*cards(400, 400)),
            {
                MORE: "moves 356.9 MiB of weights to RAM from GPUs",
                HALF: "moves 38.2 MiB of weights from RAM to GPUs",
                Q8: "moves 25.5 MiB of weights from RAM to GPUs",
                LARGE: "moves 216.8 MiB of weights to RAM from GPUs",
            },
        ),
        (
            DENSE,
            machine(*cards(300, 300)),
            {
                MORE: "moves 48.4 MiB of weights to RAM from GPUs",
                HALF: "frees 1 device",
                Q8: "frees 1 device",
                LARGE: "moves 48.4 MiB of weights to RAM from GPUs",
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
