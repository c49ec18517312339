"""The user's overrides are fixed points: every byte is where llama.cpp's own law puts it, whatever is planned."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.plan.amounts import HOST
from launcher.plan.expert_pattern import matched_names
from launcher.plan.memory.assign import assign
from launcher.plan.memory.simulated import plan_question
from launcher.plan.modes import TensorOverride
from launcher.plan.overrides import format_override, parse_rules
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.workload import Limits, Workload
from tests.plan.planned import make_plan
from tests.plan.shapes import architecture_of, cards, machine, model

PATTERNS = (
    r"ffn_.*_exps",
    r"blk\.[0-3]\.ffn_up_exps",
    r"blk\.\d\.attn",
    r"token_embd",
    r"^output",
    r"\.weight",
)


def rules(*given_ones: tuple[str, str]) -> Workload:
    overrides = tuple(TensorOverride(pattern=pattern, where=where) for pattern, where in given_ones)
    return Workload(ctx_size=4096, overrides=overrides)


@settings(deadline=None)
@given(
    name=st.sampled_from(["qwen3moe", "deepseek2", "gemma3", "llama"]),
    free_mib=st.lists(st.integers(60, 330), min_size=2, max_size=2),
    chosen=st.lists(
        st.tuples(st.sampled_from(PATTERNS), st.sampled_from([HOST, "CUDA0", "CUDA1"])), max_size=3
    ),
)
def test_the_formulas_place_what_llama_cpp_places(
    name: str, free_mib: list[int], chosen: list[tuple[str, str]]
) -> None:
    """`assign` is the law of `launcher check`, which the engine's log has confirmed."""
    file, box = model(name), machine(*cards(*free_mib))
    names = [tensor.name for tensor in file.tensors]
    chosen = [(pattern, where) for pattern, where in chosen if matched_names(pattern, names)]
    outcome = make_plan(file, "Q4_0", box, rules(*chosen))
    needed = {where for pattern, where in chosen if where != HOST}
    if isinstance(outcome, Shortfall):
        assert needed
        return
    question = plan_question(outcome, "m", box.devices)
    assert question.overrides[: len(chosen)] == (
        rules(*chosen).overrides if outcome.placement.devices else ()
    )
    assignment = assign(question, architecture_of(file), file.tensors)
    assert {row.where: row.weights.n_bytes for row in outcome.ledger} == {
        share.where: share.weights_bytes for share in assignment.shares
    }


def planned(workload: Workload, *free_mib: int) -> Plan:
    outcome = make_plan(model(), "Q4_0", machine(*cards(*free_mib)), workload)
    assert isinstance(outcome, Plan), outcome.reasons
    return outcome


def test_a_device_that_gets_tensors_is_used_and_the_reasons_say_so() -> None:
    assert planned(rules(), 900, 800).placement.devices == ("CUDA0",)
    plan = planned(rules((r"blk\.0\.ffn_up_exps", "CUDA1"), (r"blk\.[01]\.ffn_.*_exps", HOST)), 900, 800)
    assert "CUDA1" in plan.placement.devices
    assert "-ot: 1 tensor (6.8 MiB) on CUDA1 as asked" in plan.reasons
    assert "-ot: 5 tensors (33.8 MiB) on the host as asked" in plan.reasons


def test_the_plan_s_own_override_comes_after_the_user_s() -> None:
    plan = planned(rules((r"blk\.(7|11)\.ffn_.*_exps", "CUDA1")), 250, 200)
    assert plan.placement.host_expert_blocks
    question = plan_question(plan, "m", cards(250, 200))
    assert [rule.where for rule in question.overrides] == ["CUDA1", HOST]


def test_what_a_device_has_no_room_for_is_missing_there() -> None:
    outcome = make_plan(model(), "Q4_0", machine(*cards(900, 100)), rules(("blk", "CUDA1")))
    assert isinstance(outcome, Shortfall)
    assert outcome.where == "CUDA1"


@pytest.mark.parametrize(
    ("rule", "limits", "message"),
    [
        (("blk", "CUDA7"), Limits(), "-ot blk=CUDA7: no such device is used, only CUDA0, CUDA1"),
        (("blk", "CUDA1"), Limits(gpus=("CUDA0",)), "-ot blk=CUDA1: no such device is used, only CUDA0"),
        (("shexp", HOST), Limits(), r"-ot shexp finds no tensor of qwen3moe-mini"),
        (("blk.(0", HOST), Limits(), "-ot 'blk.(0' is not a regular expression"),
    ],
)
def test_an_override_that_cannot_be_kept_is_named(
    rule: tuple[str, str], limits: Limits, message: str
) -> None:
    with pytest.raises(UsageError) as raised:
        make_plan(model(), "Q4_0", machine(*cards(900, 800)), rules(rule), limits=limits)
    assert message in raised.value.message
    assert raised.value.hint


def test_without_a_device_everything_is_where_it_was_sent() -> None:
    plan = make_plan(model("gemma3"), "Q4_0", machine(), rules(("token_embd", HOST)))
    assert isinstance(plan, Plan)
    assert plan.ledger == make_plan(model("gemma3"), "Q4_0", machine(), rules()).ledger


def test_rules_are_patterns_and_places() -> None:
    assert parse_rules("exps=CPU,,a=b=c") == (
        TensorOverride(pattern="exps", where=HOST),
        TensorOverride(pattern="a", where="b=c"),
    )
    assert parse_rules("x=CUDA1")[0].where == "CUDA1"
    assert parse_rules("") == ()
    with pytest.raises(ValueError, match="exps"):
        parse_rules("x=CPU,exps")
    for rule in parse_rules("exps=CPU,x=CUDA1"):
        assert parse_rules(format_override(rule)) == (rule,)
    assert format_override(TensorOverride(pattern="exps", where=HOST)) == "exps=CPU"
