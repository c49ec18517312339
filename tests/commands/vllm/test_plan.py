"""Models for vLLM: from REFs, machines and options to plans."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from launcher.commands.here import Here, here_with
from launcher.commands.vllm.gpus import pool_of, total_of, utilisation_of
from launcher.commands.vllm.plan import VllmPlanned, plan_beside, plan_for_vllm, vllm_document
from launcher.errors import DoesNotFit, NotFound, UsageError
from launcher.machine.from_words import Words, adhoc_machine
from launcher.machine.machine import Machine
from launcher.models.profiles.profile import pick_profile
from launcher.plan.modes import CacheType
from launcher.plan.workload import Limits, Workload
from launcher.units import GIB
from tests.tiny_safetensors import write_tiny_llama


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    return here_with(offline=True)


def machine_with(*gpus: str) -> Machine:
    return adhoc_machine(Words(gpus=gpus, ram_bytes=1 << 40))


def plan(here: Here, machine: Machine, *flags: str, ref: str = "kimi-k2.5", count: int = 1) -> VllmPlanned:
    return plan_for_vllm(here, ref, Workload(), Limits(), flags, [machine] * count)


def test_ranks_on_two_machines_have_a_command_each(here: Here) -> None:
    planned = plan(here, machine_with("h100:8"), count=2)
    head, other = planned.command_lines()
    assert (head[head.index("--node-rank") + 1], other[other.index("--node-rank") + 1]) == ("0", "1")
    assert "--headless" in other
    assert not {"--host", "--port"} & set(other)
    alone = vllm_document(plan(here, machine_with("h100:8")))
    assert alone["fits"] is False
    assert alone["would_do"] == "16 x NVIDIA H100 80GB HBM3 on 2 machines (-tp 8 -pp 2)"


@pytest.mark.parametrize(
    ("flags", "workload", "limits", "sentence"),
    [
        (("-tp", "3"), Workload(), Limits(), "64 attention heads do not divide among 3 GPUs"),
        (("--api-key", "secret"), Workload(), Limits(), "the command line has --api-key"),
        ((), Workload(cache_type_k=CacheType.Q8_0), Limits(), "another option of llama.cpp's"),
        ((), Workload(), Limits(gpus=("CUDA0",)), "another option of llama.cpp's"),
        ((), Workload(ctx_size=300_000), Limits(), "more than the model's 262144 tokens"),
    ],
)
def test_what_vllm_has_no_word_for_is_refused(
    here: Here, flags: tuple[str, ...], workload: Workload, limits: Limits, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        plan_for_vllm(here, "kimi-k2.5", workload, limits, flags, [machine_with("h200:8")])


def test_machines_without_its_gpus_and_unequal_ones_are_named(here: Here) -> None:
    with pytest.raises(DoesNotFit, match="NVIDIA's and AMD's GPUs"):
        plan(here, machine_with())
    with pytest.raises(UsageError, match="1 x NVIDIA H100 80GB HBM3, 8 x NVIDIA H200"):
        pool_of([machine_with("h200:8"), machine_with("h100")])
    assert pool_of([machine_with("3090", "h100:2")]).per_machine == 2


def test_models_that_vllm_has_nothing_of_are_named(here: Here, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="qwen3-8b") as caught:
        plan(here, machine_with("h100"), ref="qwen3-8b")
    assert "kimi-k2.5" in (caught.value.hint or "")
    with pytest.raises(NotFound, match=r"no config\.json"):
        plan(here, machine_with("h100"), ref=str(tmp_path))


def test_a_folder_of_safetensors_is_planned(here: Here, tmp_path: Path) -> None:
    write_tiny_llama(tmp_path)
    document = vllm_document(plan(here, machine_with("24G"), ref=str(tmp_path)))
    assert document["model"] == str(tmp_path)
    assert document["rank"]["cache_token_bytes"] == 2048
    assert document["ctx_size"] == 2048


def test_memory_that_others_have_makes_the_share_smaller(here: Here) -> None:
    idle = machine_with("h200:8")
    assert utilisation_of([idle]) == Fraction(92, 100)
    assert total_of(idle.devices[0]) == pytest.approx(139.80 * GIB, rel=1e-4)
    first, *rest = idle.devices
    busy = replace(idle, devices=(replace(first, free_bytes=100 * GIB), *rest))
    assert utilisation_of([busy]) == Fraction(70, 100)  # less what it takes before it looks
    assert vllm_document(plan(here, busy))["fits"] is True
    assert plan(here, busy).plan.ledger.budget < plan(here, idle).plan.ledger.budget


@pytest.mark.parametrize("share", ["0.71", "0.99", "1.00"])
def test_a_share_that_is_not_free_is_refused(here: Here, share: str) -> None:
    first, *rest = machine_with("h200:8").devices
    busy = replace(machine_with("h200:8"), devices=(replace(first, free_bytes=100 * GIB), *rest))
    with pytest.raises(UsageError, match=r"is more than is free: vLLM starts with 0\.70 at most"):
        plan(here, busy, "--gpu-memory-utilization", share)
    with pytest.raises(UsageError, match="more than is free"):
        plan(here, machine_with("h200:8"), "--gpu-memory-utilization", "1.00")
    assert plan(here, machine_with("h200:8"), "--gpu-memory-utilization", "0.95").fits


def test_beside_another_plan_vllm_is_named_only_where_there_is_something_to_say(here: Here) -> None:
    profile = pick_profile(here.sources.profiles, "kimi-k2.5")
    assert plan_beside(None, Workload(), machine_with("h200:8")) is None
    assert plan_beside(profile, Workload(), machine_with()) is None
    small = plan_beside(profile, Workload(), machine_with("3090"))
    assert small is not None
    assert not small.fits
