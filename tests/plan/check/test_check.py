"""Verdicts on command lines where no simulator runs, or one that answers from a list."""

from __future__ import annotations

import json

import pytest

from launcher.engine.flags.command_line import read_command
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, Basis
from launcher.plan.check.as_json import check_json
from launcher.plan.check.check import Check, check_configuration
from launcher.plan.companions import NO_COMPANIONS, Companions, Draft, DraftRequest
from launcher.plan.expert_pattern import placement_pattern
from launcher.plan.oracle import Answer, BufferRow, HostTensor, Question, Refusal
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB
from tests.plan.planned import make_plan
from tests.plan.shapes import cards, machine, model


class Silent:
    """A simulator that cannot run."""

    def simulate(self, question: Question) -> Answer | Refusal:
        return Refusal(reason=f"there is no engine for {question.model}", model_refused=False)


class Refuses:
    def simulate(self, question: Question) -> Answer | Refusal:
        return Refusal(reason=f"llama.cpp test: {question.cache_type_v} will not do", model_refused=True)


class Says:
    """Every place holds 10 MiB of weights, 20 of caches, and this much compute."""

    def __init__(self, compute_mib: dict[str, int]) -> None:
        self._compute = compute_mib

    def simulate(self, question: Question) -> Answer | Refusal:
        places = (*(device.id for device in question.devices), HOST)
        return Answer(
            rows=tuple(
                BufferRow(
                    where=place,
                    buffer_type=place,
                    weights_bytes=10 * MIB,
                    kv_bytes=15 * MIB,
                    recurrent_bytes=5 * MIB,
                    compute_bytes=self._compute.get(place, 1) * MIB,
                    output_bytes=0,
                )
                for place in places
            ),
            slot_ctx_size=question.ctx_size,
            flash_attn=True,
            sched_copies=1,
            graph_splits=(1, 1),
            host_tensors=(HostTensor(name="blk.0.x", reason="CUDA0 has no kernel for TQ1_0"),),
            engine="llama.cpp test",
        )


SILENT = Silent()


def verdict(
    line: str,
    box: Machine | None = None,
    *,
    name: str = "qwen3moe",
    oracle: Silent | Refuses | Says = SILENT,
    beside: Companions = NO_COMPANIONS,
) -> Check:
    configuration = read_command([f"llama-server {line}"]).configuration
    box = box or machine(*cards(2000, 2000))
    return check_configuration(configuration, model(name), box, oracle, "m.gguf", beside)


def draft(oracle: Silent | Refuses | Says, *devices: str) -> Companions:
    wish = DraftRequest(path="d.gguf", devices=devices or None)
    return Companions(
        draft=Draft(request=wish, model=model("llama"), path="d.gguf", oracle=oracle), n_draft=3
    )


def said(found: Check, words: str) -> bool:
    return any(words in reason for reason in found.reasons)


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
    assert said(found, "memory is estimated, not simulated: there is no engine for m.gguf")


def test_experts_of_the_first_blocks_on_the_host_empty_the_wrong_card() -> None:
    found = verdict("-c 512 -ub 128 -ngl 99 --n-cpu-moe 6 -cram 0", machine(*cards(120, 120)))
    assert not found.fits
    assert [(failure.where, failure.stage) for failure in found.failures] == [("CUDA1", "weights")]
    row = found.ledger[1]
    assert found.failures[0].missing_bytes == row.used_bytes - row.budget_bytes
    assert said(found, "mostly CUDA0's, which keeps the experts of 1 block and has")
    assert said(found, "CUDA1 still holds those of 5 blocks")
    assert said(found, "blocks whose experts stay on their device: CUDA0 1 of its 7, CUDA1 5 of its 5")
    assert said(
        found,
        "layers by count, in proportion to free memory: CUDA0 blocks 0-6, CUDA1 blocks 7-11 and the output layer",
    )
    assert said(found, "--fit is on and changes nothing: -ngl is given")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "",
            "--fit is on: llama-server itself would shorten the context, to 4096 tokens at the least and put layers",
        ),
        (
            "-c 8192",
            "--fit is on: llama-server itself would put layers or experts on the host; it takes the host's",
        ),
        (
            "-ts 1,1",
            "shorten the context, to 4096 tokens at the least; it leaves the layers alone, because -ts is given",
        ),
        (
            "-c 8192 -ot x=CPU",
            "changes nothing: an override of tensors (-ot, --cpu-moe, --n-cpu-moe) is given",
        ),
    ],
)
def test_what_fit_would_change(line: str, sentence: str) -> None:
    assert said(verdict(line, machine(*cards(10, 10))), sentence)


def test_fit_is_not_mentioned_where_it_is_off_or_nothing_is_short() -> None:
    assert not said(verdict("-fit off", machine(*cards(10, 10))), "--fit")
    assert not said(verdict("-c 4096"), "--fit")


def test_fit_does_not_look_at_the_hosts_memory() -> None:
    found = verdict("-c 4096 -cram 4096", machine(*cards(2000), ram_bytes=4 * GIB))
    assert [(failure.where, failure.stage) for failure in found.failures] == [(HOST, "cache")]
    assert said(found, "--fit is on and changes nothing: it does not look at the host's memory")
    assert said(found, "counted at its limit of 4.0 GiB, as asked")


def test_what_is_only_short_of_the_margin_may_start() -> None:
    found = verdict("-ngl 99 -c 4096", machine(*cards(160)))
    assert [failure.where for failure in found.failures] == ["CUDA0"]
    assert said(found, "kept free there: it may start and fail later")


def test_a_prompt_cache_without_limit_is_told_about() -> None:
    found = verdict("-c 4096 -cram -1")
    assert found.ledger[-1].cache.n_bytes == 0
    assert said(found, "the prompt cache has no limit")


def test_the_default_prompt_cache_is_counted() -> None:
    assert verdict("-c 4096").ledger[-1].cache.n_bytes == 8 * GIB


def test_checkpoints_of_a_sliding_window() -> None:
    """At most what a context has use for: 4 and one for each 8192 tokens."""
    none = verdict("-c 8192 -cram 0 -ctxcp 0 -np 1", name="gemma3").ledger[-1].cache.n_bytes
    two = verdict("-c 8192 -cram 0 -ctxcp 2 -np 1", name="gemma3").ledger[-1].cache.n_bytes
    usual = verdict("-c 8192 -cram 0 -np 1", name="gemma3").ledger[-1].cache.n_bytes
    assert (none, usual) == (0, two // 2 * 5)
    assert two > 0


def test_slots_that_do_not_share_have_a_window_each() -> None:
    shared, apart = (
        verdict(f"-c 16384 -np 4 {flag} -dev CUDA0", name="gemma3").ledger[0].kv.n_bytes
        for flag in ("-kvu", "")
    )
    assert apart != shared
    assert verdict("-c 16384 -np 4", name="gemma3").slot_ctx_size == 4096
    assert verdict("-c 16384 -np 4 -kvu", name="gemma3").slot_ctx_size == 8192


def test_a_cache_that_stays_on_the_host() -> None:
    found = verdict("-c 4096 -nkvo")
    assert [row.kv.n_bytes == 0 for row in found.ledger] == [True, True, False]
    assert said(found, "the KV cache is on the host: --no-kv-offload")


def test_devices_that_are_left_out() -> None:
    assert said(verdict("-dev CUDA1 -c 4096"), "CUDA0 not used")
    assert said(verdict("-sm none -c 4096"), "CUDA1 not used: --split-mode none")
    assert said(verdict("-dev none -c 4096"), "everything on the host: no device is used")
    assert said(verdict("-c 4096", machine()), "everything on the host: there is no GPU")
    assert [row.where for row in verdict("-dev CUDA1 -c 4096").ledger] == ["CUDA1", HOST]


def test_a_pattern_that_finds_nothing_is_named() -> None:
    assert said(verdict("-c 4096 -ot exps_typo=CPU"), "-ot exps_typo=host finds no tensor")
    assert not said(verdict("-c 4096 -ncmoe 99"), "finds no tensor")


def test_simulated_rows_replace_the_counted_ones() -> None:
    found = verdict("-c 4096 -cram 0", oracle=Says({"CUDA1": 5000}))
    assert found.simulated_by == "llama.cpp test"
    assert [(row.weights.n_bytes, row.kv.n_bytes) for row in found.ledger] == [(10 * MIB, 20 * MIB)] * 3
    assert {row.compute.basis for row in found.ledger} == {Basis.SIMULATED}
    assert [(failure.where, failure.stage) for failure in found.failures] == [("CUDA1", "compute")]
    assert said(found, "blk.0.x on the host: CUDA0 has no kernel for TQ1_0")
    assert said(found, "memory simulated by llama.cpp test")


def test_the_earliest_failure_is_first() -> None:
    small = machine(*cards(100, 3000), ram_bytes=4 * GIB)
    found = verdict("-c 4096 -ts 1,30", small, oracle=Says({"CUDA0": 4000, "CUDA1": 4000}))
    assert [failure.stage for failure in found.failures] == ["compute", "compute", "cache"]
    assert [failure.where for failure in found.failures] == ["CUDA0", "CUDA1", HOST]


def test_what_llama_cpp_refuses_does_not_fit() -> None:
    found = verdict("-c 4096 -ctv q4_0 -fa off", oracle=Refuses())
    assert (found.fits, found.failures) == (False, ())
    assert found.refusal == "llama.cpp test: q4_0 will not do"


def test_the_document() -> None:
    document = json.loads(
        json.dumps(check_json(verdict("-c 4096 -ncmoe 6 -ngl 99", machine(*cards(60, 60)))))
    )
    assert document["schema"] == 1
    assert document["fits"] is False
    assert document["context"] == {"tokens": 4096, "slots": 4, "shared": True, "per_slot": 4096}
    assert document["failures"][0]["where"] == "CUDA1"
    assert [row["id"] for row in document["devices"]] == ["CUDA0", "CUDA1"]
    assert document["layers"][1]["layers"] == "7-12"
    assert document["layers"][1]["n_expert_blocks"] == 5
    assert document["settings"]["load_mode"] == "mmap"


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
    assert said(found, "draft model llama-mini in the ledger: CUDA1 10.0 MiB weights")
    assert not said(found, "CUDA1 not used")


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
    assert rows == {"CUDA1": MIB, "CUDA0": 7 * MIB, HOST: 2 * MIB}


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
    assert said(tensors, "blocks 0-11 and the output layer are divided, CUDA0 25% : CUDA1 75%; norms")


def test_tensors_divided_as_the_simulator_says() -> None:
    found = verdict("-c 4096 -sm tensor -cram 0", oracle=Says({"CUDA1": 5000}))
    assert [failure.where for failure in found.failures] == ["CUDA1"]
    assert found.question.split_mode == "tensor"
    assert said(found, "are divided, CUDA0 50% : CUDA1 50%")
    assert said(found, "--fit is on and changes nothing: it declines --split-mode tensor")
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
