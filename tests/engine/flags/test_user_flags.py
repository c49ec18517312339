"""Flags after `--` as requests to the planner."""

from __future__ import annotations

import pytest

from launcher.engine.flags.user_flags import (
    absorb_flags,
    adapter_files,
    carried_flags,
    is_flag,
    split_flags,
    take_token,
    uncounted_notes,
    without_flags,
)
from launcher.errors import UsageError
from launcher.plan.amounts import HOST
from launcher.plan.expert_pattern import EXPERTS
from launcher.plan.modes import CacheType, FlashAttention, LoadMode, NumaMode, TensorOverride
from launcher.plan.workload import Workload
from launcher.units import MIB


def test_requests_are_taken_and_the_rest_is_left() -> None:
    flags = (
        "-c", "65536", "--seed", "-1", "--cache-type-k", "q8_0", "-fa", "on", "-ub", "1024", "--jinja", "-np", "2",
        "--cache-ram", "0", "--load-mode", "none",
    )  # fmt: skip
    workload, rest = absorb_flags(flags, Workload())
    assert workload == Workload(
        ctx_size=65536,
        n_parallel=2,
        cache_type_k=CacheType.Q8_0,
        ubatch_size=1024,
        flash_attn=FlashAttention.ON,
        cache_ram_bytes=0,
        load_mode=LoadMode.NONE,
    )
    assert rest == ("--seed", "-1", "--jinja")


def test_nothing_to_take() -> None:
    assert absorb_flags((), Workload(ctx_size=1)) == (Workload(ctx_size=1), ())


def test_the_same_request_twice_is_one() -> None:
    workload, _ = absorb_flags(("-c", "4096"), Workload(ctx_size=4096))
    assert workload.ctx_size == 4096
    with pytest.raises(UsageError, match="-c 4096 comes after another -c that says 8192"):
        absorb_flags(("-c", "4096"), Workload(ctx_size=8192))


@pytest.mark.parametrize(
    "flags",
    [
        ("-c",),
        ("-c", "many"),
        ("-c", "0"),
        ("-np", "-2"),
        ("-ctk", "q3_k"),
        ("-fa", "maybe"),
        ("-cram", "-1"),
    ],
)
def test_what_llama_server_would_refuse_is_refused(flags: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=flags[0]):
        absorb_flags(flags, Workload())


def test_cache_ram_is_in_mib() -> None:
    assert absorb_flags(("-cram", "300"), Workload())[0].cache_ram_bytes == 300 * MIB


def test_values_that_begin_with_a_dash_are_values() -> None:
    assert list(split_flags(("--temp", "-0.5", "-kvu", "--seed", "-1"))) == [
        ("--temp", ("--temp", "-0.5")),
        ("-kvu", ("-kvu",)),
        ("--seed", ("--seed", "-1")),
    ]


def test_further_files_are_not_in_the_ledger() -> None:
    notes = uncounted_notes(
        (
            "--control-vector",
            "c.gguf",
            "--seed",
            "1",
        )
    )
    assert [note.split(" is ")[0] for note in notes] == [
        "--control-vector c.gguf",
    ]


def test_projectors_and_draft_models_are_counted() -> None:
    assert uncounted_notes(("--mmproj", "vision.gguf", "-md", "draft.gguf")) == ()
    assert uncounted_notes(("--mmproj-url", "https://x/m.gguf", "-hfd", "user/draft")) == ()


def test_adapters_are_counted_by_their_files() -> None:
    flags = ("--seed", "1", "--lora", "a.gguf,b.gguf")
    assert list(adapter_files(flags)) == ["a.gguf", "b.gguf"]


def test_a_numa_mode_is_a_request() -> None:
    assert absorb_flags(("--numa", "isolate"), Workload())[0].numa is NumaMode.ISOLATE
    with pytest.raises(UsageError):
        absorb_flags(("--numa", "sideways"), Workload())


def test_overrides_are_requests_in_the_order_typed() -> None:
    flags = (
        "-ot",
        "a=CUDA1,b=CPU",
        "--jinja",
        "--n-cpu-moe",
        "2",
        "--override-tensor",
        "c=CPU",
        "-cmoe",
        "-ncffn",
        "0",
    )
    workload, rest = absorb_flags(flags, Workload())
    assert rest == ("--jinja",)
    assert workload.overrides == (
        TensorOverride(pattern="a", where="CUDA1"),
        TensorOverride(pattern="b", where=HOST),
        TensorOverride(pattern=r"blk\.([01])" + EXPERTS, where=HOST),
        TensorOverride(pattern="c", where=HOST),
        TensorOverride(pattern=EXPERTS, where=HOST),
    )


@pytest.mark.parametrize(
    "flags",
    [
        ("-ot", "a"),
        ("-ot",),
        ("-cmoe", "2"),
        ("-ncmoe", "-1"),
        ("-ncmoe", "all"),
        ("--no-op-offload", "1"),
    ],
)
def test_an_override_llama_server_would_refuse_is_refused(flags: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=flags[0]):
        absorb_flags(flags, Workload())


def test_of_two_switches_the_last_counts() -> None:
    flags = ("--no-op-offload", "--jinja")
    workload, rest = absorb_flags(flags, Workload())
    assert (workload.op_offload, rest) == (False, ("--jinja",))
    assert absorb_flags((*flags, "--op-offload"), Workload())[0].op_offload


def test_a_switch_replaces_its_opposite() -> None:
    assert carried_flags(("--no-op-offload",), ("--op-offload",), Workload()) == ()
    assert without_flags(("--op-offload",), Workload(), ("--jinja", "--no-op-offload"))[1] == ("--jinja",)


def test_what_the_user_says_replaces_what_a_profile_carries() -> None:
    carried = ("-ub", "1024", "--lora", "a.gguf", "-ot", "x=CPU", "-ctk", "q8_0")
    assert carried_flags(carried, (), Workload()) == carried
    typed = ("--ubatch-size", "512", "-ot", "y=CPU")
    assert carried_flags(carried, typed, Workload(cache_type_k=CacheType.Q4_0)) == ("--lora", "a.gguf")


@pytest.mark.parametrize("word", ["-c", "--ctx-size", "-ngl", "--"])
def test_a_dash_and_a_letter_is_a_flag(word: str) -> None:
    assert is_flag(word)


@pytest.mark.parametrize("word", ["", "-", "a", "a-b", "-1", "-0.5", "-.5", "1"])
def test_a_number_or_a_word_is_a_value(word: str) -> None:
    assert not is_flag(word)


@pytest.mark.parametrize("flag", ["-c", "-np", "-b", "-ub"])
def test_one_is_the_least_that_can_be_asked_for(flag: str) -> None:
    workload, rest = absorb_flags((flag, "1"), Workload())
    assert rest == ()
    assert 1 in {workload.ctx_size, workload.n_parallel, workload.batch_size, workload.ubatch_size}
    with pytest.raises(UsageError, match=f"{flag} 0 after -- is less than 1"):
        absorb_flags((flag, "0"), Workload())


@pytest.mark.parametrize("flag", ["--hf-token", "--hf_token", "-hft"])
def test_a_token_is_taken_out_of_the_flags(flag: str) -> None:
    assert take_token(("-c", "4096", flag, "hf_x", "-fa", "on")) == (("-c", "4096", "-fa", "on"), "hf_x")
    assert take_token(("-c", "4096", flag)) == (("-c", "4096", flag), None)
    assert take_token(("-c", "4096")) == (("-c", "4096"), None)
