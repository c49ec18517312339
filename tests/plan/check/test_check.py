"""Verdicts on command lines where no simulator runs, or one that answers from a list."""

from __future__ import annotations

import re

import pytest

from launcher.engine.flags.command_line import read_command
from launcher.plan.amounts import HOST, Basis
from launcher.plan.check.as_json import check_json
from launcher.plan.check.check import Check, check_configuration
from launcher.plan.expert_pattern import placement_pattern
from launcher.plan.oracle import Answer, Question, Refusal
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB
from tests.plan.check.checks import SILENT, Refuses, Says, draft, has_reason, verdict
from tests.plan.planned import make_plan
from tests.plan.shapes import cards, machine, model


def test_estimates_are_the_planners_for_the_planners_own_command() -> None:
    """A plan's ledger, and the check of the flags it is written as."""
    box = machine(*cards(110, 110))
    plan = make_plan(
        model("deepseek2"), "Q4_0", box, Workload(ctx_size=4096, n_parallel=2, cache_ram_bytes=0)
    )
    assert isinstance(plan, Plan)
    assert plan.placement.host_expert_blocks
    counts = ",".join(str(count) for count in plan.placement.tensor_split)
    line = f"-c 4096 -np 2 -kvu -ngl 99 -ts {counts} -cram 0 -ot '{placement_pattern(plan.placement)}=CPU'"
    found = verdict(line, box, name="deepseek2")
    assert found.ledger == plan.ledger
    assert found.fits
    assert has_reason(found, "memory is estimated, not simulated: there is no engine for m.gguf")


def test_the_default_prompt_cache_is_counted() -> None:
    assert verdict("-c 4096").ledger[-1].cache.n_bytes == 8 * GIB


def test_checkpoints_of_a_sliding_window() -> None:
    """All that llama-server may keep: its list fills with short prompts, too."""
    none = verdict("-c 8192 -cram 0 -ctxcp 0 -np 1", name="gemma3").ledger[-1].cache.n_bytes
    two = verdict("-c 8192 -cram 0 -ctxcp 2 -np 1", name="gemma3").ledger[-1].cache.n_bytes
    usual = verdict("-c 8192 -cram 0 -np 1", name="gemma3").ledger[-1].cache.n_bytes
    assert (none, usual) == (0, two // 2 * 32)
    assert two > 0
    assert verdict("-c 8192 -cram 0 -np 1 --swa-full", name="gemma3").ledger[-1].cache.n_bytes == 0


def test_slots_that_nobody_asked_for_are_cleared_when_idle() -> None:
    """--cache-idle-slots: what they keep moves into the prompt cache, within its limit."""
    one = verdict("-c 8192 -cram 0 -np 1", name="gemma3").ledger[-1].cache.n_bytes
    for line, slots in (
        ("-cram 100", 1),
        ("-cram 100 -np 4 -kvu", 4),
        ("-cram 0", 4),
        ("-cram 100 --no-cache-idle-slots", 4),
    ):
        prompt = 100 * MIB if "100" in line else 0
        found = verdict(f"-c 8192 {line}", name="gemma3")
        assert found.ledger[-1].cache.n_bytes == slots * one + prompt, line
        assert found.caches is not None
        assert (found.caches.slots, found.caches.all_slots) == (slots, 4)


def tight(line: str, ram_gib: int) -> Check:
    """A model of which a checkpoint takes 416 MiB, on one large card."""
    configuration = read_command([f"llama-server {line}"]).configuration
    box = machine(*cards(60_000), ram_bytes=ram_gib * GIB)
    return check_configuration(configuration, model("gemma3", "gemma-3-27b"), box, SILENT, "m.gguf")


def test_checkpoints_for_which_others_would_not_leave_enough_are_counted() -> None:
    """Those of all slots: 52 GiB where one slot's would take 13."""
    for ram_gib, slots in ((20, 4), (100, 1)):
        found = tight("-c 8192 -cram 64", ram_gib)
        assert found.caches is not None
        assert (found.caches.checkpoints, found.caches.slots) == (32, slots)
        assert found.fits == (slots == 1)
    assert [failure.stage for failure in tight("-c 8192 -cram 64", 20).failures] == ["cache"]
    assert has_reason(found, "for the request at work, 13.0 GiB (idle slots are cleared; 4 at once")


@pytest.mark.parametrize("line", ["-cram 0", "-cram 600", "-cram 100 -np 8", "-cram 5000 -ctxcp 0"])
def test_the_flags_that_a_shortage_names_cure_it(line: str) -> None:
    short = tight(f"-c 8192 {line}", 6)
    assert [failure.where for failure in short.failures] == [HOST]
    found = re.search(r"short; (.*) cures it", short.reasons[0])
    assert found is not None, short.reasons
    cured = tight(f"-c 8192 {line} {found[1]}", 6)
    assert cured.fits, cured.reasons


def test_nothing_is_said_of_a_prompt_cache_that_is_off() -> None:
    short = tight("-c 8192 -cram 0", 20)
    assert not short.fits
    assert not has_reason(short, "prompt cache is counted")
    assert has_reason(short, "up to 32 of 416.0 MiB for each of 4 slots, 52.0 GiB")
    assert has_reason(short, "--ctx-checkpoints N keeps fewer")


def test_slots_that_do_not_share_have_a_window_each() -> None:
    shared, apart = (
        verdict(f"-c 16384 -np 4 {flag} -dev CUDA0", name="gemma3").ledger[0].kv.n_bytes
        for flag in ("-kvu", "")
    )
    assert apart != shared
    assert verdict("-c 16384 -np 4", name="gemma3").slot_ctx_size == 4096
    assert verdict("-c 16384 -np 4 -kvu", name="gemma3").slot_ctx_size == 8192


def test_simulated_rows_replace_the_counted_ones() -> None:
    found = verdict("-c 4096 -cram 0", oracle=Says({"CUDA1": 5000}))
    assert found.simulated_by == "llama.cpp test"
    assert [(row.weights.n_bytes, row.kv.n_bytes) for row in found.ledger] == [(10 * MIB, 20 * MIB)] * 3
    assert {row.compute.basis for row in found.ledger} == {Basis.SIMULATED}
    assert [(failure.where, failure.stage) for failure in found.failures] == [("CUDA1", "compute")]
    assert has_reason(found, "blk.0.x on the host: CUDA0 has no kernel for TQ1_0")
    assert has_reason(found, "memory simulated by llama.cpp test")


def test_the_earliest_failure_is_first() -> None:
    small = machine(*cards(100, 3000), ram_bytes=4 * GIB)
    found = verdict("-c 4096 -ts 1,30", small, oracle=Says({"CUDA0": 4000, "CUDA1": 4000}))
    assert [failure.stage for failure in found.failures] == ["compute", "compute", "cache"]
    assert [failure.where for failure in found.failures] == ["CUDA0", "CUDA1", HOST]


def test_what_llama_cpp_refuses_does_not_fit() -> None:
    found = verdict("-c 4096 -ctv q4_0 -fa off", oracle=Refuses())
    assert (found.fits, found.failures) == (False, ())
    assert found.refusal == "llama.cpp test: q4_0 will not do"


def test_a_draft_model_is_in_the_rows_of_its_devices() -> None:
    line = "-c 4096 -np 1 -cram 0 -dev CUDA0"
    alone = {row.where: row for row in verdict(line, oracle=Says({})).ledger}
    found = verdict(line, oracle=Says({}), beside=draft(Says({"CUDA1": 100}), "CUDA1"))
    rows = {row.where: row for row in found.ledger}
    assert list(rows) == ["CUDA0", "CUDA1", HOST]
    assert rows["CUDA0"] == alone["CUDA0"]
    assert rows["CUDA1"].compute.n_bytes == 100 * MIB
    assert rows[HOST].weights.n_bytes == alone[HOST].weights.n_bytes + 10 * MIB
    assert found.question.n_draft == 3
    assert has_reason(found, "draft model llama-mini in the ledger: CUDA1 10.0 MiB weights")
    assert not has_reason(found, "CUDA1 not used")


def test_a_draft_model_without_room_fails_after_the_model() -> None:
    line, says = "-c 4096 -np 1 -cram 0 -dev CUDA0", Says({"CUDA0": 9000, "CUDA1": 9000})
    for devices in ((), ("CUDA1",)):
        found = verdict(line, oracle=Says({}), beside=draft(says, *devices))
        assert [failure.stage for failure in found.failures] == ["beside"]
        assert found.failures[0].where == (devices[0] if devices else "CUDA0")
    assert verdict(line, oracle=Says({})).fits


def test_one_device_of_a_draft_models_under_split_mode_none() -> None:
    line = "-c 4096 -np 1 -cram 0 -sm none -mg 1"
    found = verdict(line, oracle=Says({}), beside=draft(Says({"CUDA0": 7}), "CUDA1", "CUDA0"))
    rows = {row.where: row.compute.n_bytes for row in found.ledger}
    logits = 3 * 1024 * 4  # a row of the vocabulary for each drafted token
    assert rows == {"CUDA1": MIB, "CUDA0": 7 * MIB, HOST: 2 * MIB + logits}


def test_a_draft_model_that_llama_cpp_refuses_does_not_fit() -> None:
    found = verdict("-c 4096 -np 1 -cram 0", oracle=Says({}), beside=draft(Refuses()))
    assert not found.fits
    assert found.refusal == "llama.cpp would not load path: llama.cpp test: f16 will not do"


def test_tensors_divided_by_estimate_where_no_simulator_runs() -> None:
    layers, tensors = (verdict(f"-c 4096 -sm {mode} -ts 1,3 -cram 0") for mode in ("layer", "tensor"))
    whole = sum(row.weights.n_bytes for row in layers.ledger[:2])
    first, second, host = tensors.ledger
    assert [first.weights.n_bytes, second.weights.n_bytes] == [round(whole / 4), round(whole * 3 / 4)]
    assert first.weights.basis is second.kv.basis is Basis.ESTIMATED
    assert first.compute == second.compute
    assert host.weights == layers.ledger[2].weights
    assert [share.layers for share in tensors.assignment.shares[:2]] == [tuple(range(13))] * 2
    assert has_reason(tensors, "blocks 0-11 and the output layer are divided, CUDA0 25% : CUDA1 75%; norms")


def test_tensors_divided_as_the_simulator_says() -> None:
    found = verdict("-c 4096 -sm tensor -cram 0", oracle=Says({"CUDA1": 5000}))
    assert [failure.where for failure in found.failures] == ["CUDA1"]
    assert found.question.split_mode == "tensor"
    assert has_reason(found, "are divided, CUDA0 50% : CUDA1 50%")
    assert has_reason(found, "--fit is on and changes nothing: it declines --split-mode tensor")
    assert check_json(found)["settings"]["split_mode"] == "tensor"


def test_a_draft_model_on_one_device_is_not_divided() -> None:
    class Notes(Says):
        asked: list[Question] = []  # noqa: RUF012 - one test's

        def simulate(self, question: Question) -> Answer | Refusal:
            self.asked.append(question)
            return super().simulate(question)

    drafts = Notes({})
    for devices in ((), ("CUDA1",)):
        verdict("-c 4096 -sm tensor", oracle=Says({}), beside=draft(drafts, *devices))
    assert [question.split_mode for question in drafts.asked] == ["tensor", "layer"]


# Says' rows on a card that has so many MiB besides what backend and margin take: 10 weights, 20 caches, 1 compute.
@pytest.mark.parametrize(
    ("free_mib", "stage"), [(9, "weights"), (10, "kv"), (29, "kv"), (30, "compute"), (31, None)]
)
def test_a_card_is_full_to_the_last_byte_before_it_is_over(free_mib: int, stage: str | None) -> None:
    found = verdict("-c 4096 -cram 0", machine(*cards(free_mib)), oracle=Says({}))
    assert [failure.stage for failure in found.failures] == ([stage] if stage else [])
    assert found.fits is (stage is None)


def test_only_the_prompt_cache_is_over_where_all_else_fills_the_ram() -> None:
    # 512 MiB left to others, up to 192 for the engine itself, 31 for the rows.
    box = machine(ram_bytes=(512 + 192 + 31) * MIB)
    assert verdict("-c 4096 -cram 0", box, oracle=Says({})).fits
    found = verdict("-c 4096 -cram 1", box, oracle=Says({}))
    assert [(failure.where, failure.stage) for failure in found.failures] == [(HOST, "cache")]
    assert found.failures[0].missing_bytes == MIB


def test_cards_without_a_free_byte_are_over_budget_and_nothing_else() -> None:
    found = verdict("-c 4096", machine(*cards(-1024, -1024)), beside=draft(SILENT))
    assert {failure.where for failure in found.failures} == {"CUDA0", "CUDA1"}
    assert not found.fits
