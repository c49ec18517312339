"""What tune found is planned with for as long as it holds; what does not hold is left out, and why is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from launcher.commands.here import Here
from launcher.commands.planned import Planned, PlanRequest
from launcher.commands.tuned import keep_tuned, plan_with_tuned
from launcher.engine.flags.help_text import Capabilities, Version
from launcher.engine.flags.user_flags import absorb_flags
from launcher.machine.machine import Machine
from launcher.machine.rig import rig_of
from launcher.models.located import Located
from launcher.plan.forecast.subject import Subject, family_of
from launcher.plan.plan import Plan
from launcher.plan.search.choice import Choice
from launcher.plan.tuning.tuned import Tuned
from launcher.plan.workload import Workload
from launcher.units import GIB
from tests.plan.planned import make_plan
from tests.plan.shapes import machine, model

MODEL = model("llama")
BOX = machine(ram_bytes=16 * GIB)
ASKED = PlanRequest(ref="m", workload=Workload(ctx_size=4096, ubatch_size=512))
OPEN = replace(ASKED, workload=Workload(ctx_size=4096))
FOUND = Tuned(
    subject=Subject(
        date="2026-11-30",
        model_id="m",
        family=family_of(MODEL),
        quant="Q4_0",
        size_bytes=MODEL.size_bytes,
        engine="0c1e570",
        rig=rig_of(BOX),
    ),
    words=("-ub", "256", "-ctk", "q8_0", "-ctv", "q8_0"),
    ratio=1.5,
    workload="w",
)


def planned(request: PlanRequest, box: Machine = BOX, commit: str = "0c1e570") -> Planned:
    workload, _ = absorb_flags(request.flags, request.workload)
    plan = make_plan(MODEL, "Q4_0", box, workload)
    found = plan if isinstance(plan, Plan) else None
    version = Version(text="1", build=1, commit=commit, compiler=None)
    given: dict[str, Any] = {"target": None, "companions": None, "engine": None, "argv": ()}
    return Planned(
        **given,
        machine=box,
        capabilities=Capabilities(sha256="", version=version, options=()),
        request=request,
        choice=Choice(plan=found, shortfall=None, rejected=()),
        located=Located(model=MODEL, raw_headers=(), files=given["target"]),
    )


def with_tuned(
    here: Here, request: PlanRequest = OPEN, again: Callable[[PlanRequest], Planned] = planned, **changes: Any
) -> tuple[Plan, str]:
    """Return the plan and the last of its reasons."""
    keep_tuned(here, FOUND)
    plan = plan_with_tuned(here.settings, request, planned(request, **changes), again).plan
    assert plan is not None
    return plan, plan.reasons[-1]


def test_it_is_planned_with_and_says_so(here: Here) -> None:
    plan, why = with_tuned(here)
    assert (plan.ubatch_size, plan.cache_type_k) == (256, "q8_0")
    assert why.startswith("tuned on 2026-11-30")
    other_context, _ = with_tuned(here, replace(OPEN, workload=Workload(ctx_size=2048)))
    assert (other_context.ctx_size, other_context.ubatch_size) == (2048, 256)


def test_what_is_typed_comes_first(here: Here) -> None:
    plan, why = with_tuned(here, ASKED)
    assert (plan.ubatch_size, plan.cache_type_k) == (512, "q8_0")
    assert "-ub" not in why
    untuned, _ = with_tuned(here, replace(OPEN, untuned=True))
    assert untuned.ubatch_size == 512


def test_with_less_memory_it_is_left_out(here: Here) -> None:
    def no_longer(request: PlanRequest) -> Planned:
        return planned(request, machine(ram_bytes=MODEL.size_bytes // 2))

    plan, why = with_tuned(here, again=no_longer)
    assert plan.ubatch_size == 512
    assert why.startswith("tuned settings are left out, they do not fit now: -ub 256")


def test_what_nobody_could_verify_is_left_out(here: Here) -> None:
    def unsure(request: PlanRequest) -> Planned:
        found = planned(request)
        assert found.plan is not None
        plan = replace(found.plan, unverified="the simulator ended")
        return replace(found, choice=replace(found.choice, plan=plan))

    plan, why = with_tuned(here, again=unsure)
    assert plan.ubatch_size == 512
    assert "do not fit now" in why


def test_another_engine_s_are_left_out_until_they_are_found_again(here: Here) -> None:
    plan, why = with_tuned(here, commit="abcdef0")
    assert plan.ubatch_size == 512
    assert why.startswith("tuned settings are left out, they were found with another engine")
    keep_tuned(here, replace(FOUND, words=(), subject=replace(FOUND.subject, engine="abcdef0")))
    own = plan_with_tuned(here.settings, OPEN, planned(OPEN, commit="abcdef0"), planned).plan
    assert own is not None
    assert not any("tuned" in reason for reason in own.reasons)  # there the plan's own were the best


def test_another_machine_s_or_model_s_are_nobody_s_business(here: Here) -> None:
    plan, why = with_tuned(here, box=machine(ram_bytes=64 * GIB))
    assert (plan.ubatch_size, "tuned" in why) == (512, False)
