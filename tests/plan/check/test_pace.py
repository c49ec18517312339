"""The speed of exactly one command line: what the plan that printed it says, and what moves it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from launcher.engine.flags.argv import Serving, server_argv
from launcher.engine.flags.command_line import read_command
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.check.check import check_configuration
from launcher.plan.check.pace import Point, forecast_check, stages_of_check
from launcher.plan.forecast.factors import IK_LAWS, LAWS, Laws
from launcher.plan.forecast.turn import Forecast
from launcher.plan.plan import Plan
from launcher.units import GIB
from tests.plan.check.checks import SILENT
from tests.plan.golden import CASES
from tests.plan.planned import make_plan
from tests.plan.shapes import device, machine, model

SERVING = Serving(host="127.0.0.1", port=8080, model_id="m", model_path="/m.gguf")
CARD = replace(device(0, 200 * GIB), name="NVIDIA GeForce RTX 5090")
BOX = machine(CARD, ram_bytes=512 * GIB)
MOE = model("qwen3moe", "qwen3-235b")


def forecast(
    line: tuple[str, ...],
    file: ModelFile = MOE,
    box: Machine = BOX,
    *,
    threads: int | None = None,
    at: Point | None = None,
    laws: Laws = LAWS,
) -> Forecast:
    configuration = read_command(line).configuration
    check = check_configuration(configuration, file, box, SILENT, "/m.gguf")
    stages = stages_of_check(check, file, box, threads=threads)
    found = forecast_check(check, box, stages, at, laws=laws)
    assert found is not None
    return found


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_plan_s_line_is_as_fast_as_the_plan_says(name: str) -> None:
    file, box, workload = CASES[name]
    plan = make_plan(file, "Q4_0", box, workload)
    if not isinstance(plan, Plan) or plan.forecast is None:
        pytest.skip("it does not fit, so there is no line")
    line = tuple(server_argv(plan, SERVING))
    found = forecast(line, file, box, threads=int(line[line.index("-t") + 1]))
    assert math.isclose(found.decode.mid, plan.forecast.decode.mid, rel_tol=1e-6)
    assert math.isclose(found.prefill.mid, plan.forecast.prefill.mid, rel_tol=1e-3)  # parts of a block


LINE = ("llama-server", "-m", "/m.gguf", "-c", "32768", "--fit", "off")


def test_experts_on_the_host_are_slower() -> None:
    whole, moved = forecast((*LINE, "-ngl", "99")), forecast((*LINE, "-ngl", "99", "-cmoe"))
    assert moved.decode.mid < whole.decode.mid / 2
    assert moved.prefill.mid < whole.prefill.mid
    none = forecast((*LINE, "-ngl", "0"))
    assert none.decode.mid < moved.decode.mid


def test_caches_on_the_host_are_slower_at_depth() -> None:
    at = Point(depth=30000, prompt=512)
    there = forecast((*LINE, "-ngl", "99"), at=at)
    here = forecast((*LINE, "-ngl", "99", "-nkvo"), at=at)
    assert here.decode.mid < there.decode.mid / 2


def test_without_op_offload_prompts_are_the_host_s_work() -> None:
    line = (*LINE, "-ngl", "99", "-cmoe", "-ub", "2048", "-b", "2048")
    at = Point(depth=0, prompt=2048)
    assert forecast((*line, "--no-op-offload"), at=at).prefill.mid < forecast(line, at=at).prefill.mid


def test_speeds_are_of_the_point_that_is_asked_for() -> None:
    near, far = (forecast((*LINE, "-ngl", "99"), at=Point(depth=depth, prompt=512)) for depth in (0, 32000))
    assert far.decode.mid < near.decode.mid
    assert far.prefill.mid < near.prefill.mid
    assert (near.turn.cached_tokens, near.turn.prompt_tokens) == (0, 512)


def test_threads_beyond_one_are_faster_on_the_host() -> None:
    assert (
        forecast((*LINE, "-ngl", "0"), threads=8).decode.mid
        > forecast((*LINE, "-ngl", "0"), threads=1).decode.mid
    )


def test_another_family_of_engines_has_its_own_laws() -> None:
    line = (*LINE, "-ngl", "0")
    mainline, ik = forecast(line), forecast(line, laws=IK_LAWS)
    # its kernels multiply batches faster on the host
    assert ik.prefill.mid > 1.5 * mainline.prefill.mid


def test_tensors_split_by_rows_are_not_predicted() -> None:
    box = machine(CARD, replace(CARD, id="CUDA1"), ram_bytes=512 * GIB)
    configuration = read_command((*LINE, "-sm", "row")).configuration
    check = check_configuration(configuration, MOE, box, SILENT, "/m.gguf")
    assert stages_of_check(check, MOE, box) == ()
    assert forecast_check(check, box, ()) is None


def test_a_quantised_cache_is_not_promised_to_be_read_faster() -> None:
    at = Point(depth=30000, prompt=512)
    plain, small = (forecast((*LINE, "-ngl", "99", "-ctk", k, "-ctv", k), at=at) for k in ("f16", "q8_0"))
    assert math.isclose(plain.decode.mid, small.decode.mid, rel_tol=1e-6)
