"""What is tried instead of a plan's own settings."""

from __future__ import annotations

from dataclasses import replace

from launcher.plan.plan import Plan
from launcher.plan.tuning.settings import Start, settings_to_try
from launcher.plan.workload import Workload
from launcher.units import GIB
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
        has=lambda _flag: True,
        drafts=False,
        has_mtp=False,
        has_experts=True,
        knows_prompts=False,
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
    assert set(tried(start(has=lambda flag: flag in {"-t", "-tb"}))) <= {"threads", "batch threads"}


def test_a_bad_start_can_be_left() -> None:
    begun = start(threads=4 * start().threads, batch_threads=4 * start().threads)
    assert f"-t {start().threads} -tb {start().threads}" in tried(begun)["threads"]
