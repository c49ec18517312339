"""What is tried instead of a plan's own settings."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from launcher.machine.machine import MemoryPool
from launcher.plan.amounts import HOST
from launcher.plan.modes import NumaMode
from launcher.plan.plan import Plan
from launcher.plan.tuning.settings import Start, settings_to_try
from launcher.plan.tuning.tuned import Tuned, parse_tuned, tuned_json
from launcher.plan.workload import Workload
from launcher.system.json_object import Malformed
from launcher.units import GIB
from tests.plan.forecast.subject import SUBJECT
from tests.plan.planned import make_plan
from tests.plan.shapes import device, machine, model

BOX = machine(device(0, 24 * GIB), ram_bytes=256 * GIB)
ALONE = machine(ram_bytes=256 * GIB)


def start(box: object = BOX, **changes: object) -> Start:
    plan = make_plan(model("qwen3moe", "qwen3-235b"), "Q4_0", box, Workload(ctx_size=8192))  # type: ignore[arg-type]
    assert isinstance(plan, Plan)
    made = Start(
        plan=plan,
        threads=plan.threads,
        batch_threads=plan.threads,
        takes=lambda _flag, _value: True,
        drafts=False,
        has_mtp=False,
        has_experts=True,
        knows_prompts=False,
        longest_prompt=4096,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def tried(begun: Start, box: object = BOX) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for setting in settings_to_try(begun, box):  # type: ignore[arg-type]
        found.setdefault(setting.knob, []).append(str(setting))
    return found


def test_nothing_that_the_plan_has_is_tried() -> None:
    begun = start()
    words = {setting.words for setting in settings_to_try(begun, BOX)}
    assert ("-t", str(begun.threads), "-tb", str(begun.threads)) not in words
    assert ("-ub", str(begun.plan.ubatch_size)) not in words
    assert len(words) == len(settings_to_try(begun, BOX))


def test_experts_move_by_blocks_where_there_is_a_device() -> None:
    begun = start()
    now = len(begun.plan.placement.host_expert_blocks) + len(begun.plan.placement.host_expert_parts)
    assert f"-ncmoe {now - 1}" in tried(begun)["experts"]
    assert f"-ncmoe {now + 4}" in tried(begun)["experts"]
    assert "experts" not in tried(start(ALONE), ALONE)


def test_drafts_need_a_reason() -> None:
    assert "drafts" not in tried(start())  # tokens at random say nothing about guesses from the text
    assert any("ngram" in words for words in tried(start(knows_prompts=True))["drafts"])
    assert any("draft-mtp" in words for words in tried(start(has_mtp=True))["drafts"])
    assert "drafts" not in tried(start(has_mtp=True, knows_prompts=True, drafts=True))


def test_what_the_engine_has_no_flag_for_is_not_tried() -> None:
    assert set(tried(start(takes=lambda flag, _: flag in {"-t", "-tb"}))) <= {"threads", "batch threads"}


def test_a_bad_start_can_be_left() -> None:
    begun = start(threads=4 * start().threads, batch_threads=4 * start().threads)
    assert f"-t {start().threads} -tb {start().threads}" in tried(begun)["threads"]


def test_a_host_that_computes_nothing_has_no_threads_to_try() -> None:
    box = machine(device(0, 24 * GIB), ram_bytes=64 * GIB)
    plan = make_plan(model("llama"), "Q4_0", box, Workload(ctx_size=4096))
    assert isinstance(plan, Plan)
    begun = start(plan=plan, threads=64, batch_threads=64, has_experts=False)
    assert not begun.host_computes
    assert set(tried(begun, box)) == {"ubatch", "KV"}
    assert {"threads", "load mode"} <= set(tried(replace(begun, drafts=True), box))


def test_batches_that_hold_the_longest_prompt_are_alike() -> None:
    def sizes(longest_prompt: int, ubatch: int) -> list[str]:
        plan = replace(start().plan, ubatch_size=ubatch)
        return tried(start(plan=plan, longest_prompt=longest_prompt)).get("ubatch", [])

    assert sizes(512, 512) == ["-ub 128", "-ub 256"]
    assert sizes(512, 2048) == ["-ub 128", "-ub 256"]
    assert sizes(600, 512) == ["-ub 128", "-ub 256", "-ub 1024"]
    assert sizes(100, 32) == ["-ub 128"]


def test_a_cache_of_experts_is_no_larger_than_they_are() -> None:
    begun = start()
    assert "--moe-cache-mib 8192" in tried(begun)["expert cache"]
    small = tuple(
        replace(row, weights=replace(row.weights, n_bytes=4 * GIB)) if row.where == HOST else row
        for row in begun.plan.ledger
    )
    assert tried(start(plan=replace(begun.plan, ledger=small)))["expert cache"] == ["--moe-cache-mib 2048"]
    assert "expert cache" not in tried(start(ALONE), ALONE)


def test_op_offload_is_switched_where_a_device_computes_with_the_host_s_weights() -> None:
    assert tried(start())["op offload"] == ["--no-op-offload"]
    without = replace(start().plan, op_offload=False)
    assert tried(start(plan=without))["op offload"] == ["--op-offload"]
    assert "op offload" not in tried(start(longest_prompt=16))  # such a batch stays on the host in any case
    assert "op offload" not in tried(start(ALONE), ALONE)
    whole = make_plan(model("llama"), "Q4_0", BOX, Workload(ctx_size=4096))
    assert isinstance(whole, Plan)
    assert "op offload" not in tried(start(plan=whole, has_experts=False))


def test_words_that_no_setting_has_are_not_read() -> None:
    kept = Tuned(subject=SUBJECT, words=("--no-op-offload", "-ub", "256"), ratio=1.1, workload="w")
    assert parse_tuned(json.dumps(tuned_json(kept))).words == kept.words
    for words in (
        ("--no-op-offload", "1"),
        ("-ub",),
        ("256", "-ub", "256"),
        ("-ub", "256", "1"),
        ("-m", "a"),
    ):
        with pytest.raises(Malformed):
            parse_tuned(json.dumps(tuned_json(replace(kept, words=words))))


def test_a_numa_mode_can_be_left() -> None:
    nodes = tuple(
        MemoryPool(node=node, total_bytes=128 * GIB, free_bytes=128 * GIB, cpus=(node,)) for node in (0, 1)
    )
    two = replace(BOX, nodes=nodes)
    plan = replace(start().plan, numa=NumaMode.DISTRIBUTE)
    # llama-server has no such value: the plan is made without the flag
    known = start(plan=plan, takes=lambda _flag, value: value != "off")
    assert tried(known, two)["NUMA"] == ["--numa isolate", "--numa off"]
    assert "NUMA" not in tried(known)


def test_what_may_be_tried_may_be_kept() -> None:
    begun = start(has_mtp=True, knows_prompts=True)
    for setting in settings_to_try(begun, BOX):
        kept = Tuned(subject=SUBJECT, words=setting.words, ratio=1.1, workload="w")
        assert parse_tuned(json.dumps(tuned_json(kept))).words == setting.words
