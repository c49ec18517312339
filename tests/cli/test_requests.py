"""Requests made from options as typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.cli.options.bundles import EngineOptions, MachineOptions, PlanOptions
from launcher.cli.options.serving import ServeOptions
from launcher.cli.requests import machine_choice, plan_request, up_request
from launcher.commands.probe import THIS_MACHINE
from launcher.errors import UsageError
from launcher.plan.modes import CacheType


def test_kv_is_for_both_halves_of_the_cache() -> None:
    workload = plan_request("m", PlanOptions(kv=CacheType.Q8_0), EngineOptions(), ()).workload
    assert (workload.cache_type_k, workload.cache_type_v) == (CacheType.Q8_0, CacheType.Q8_0)


def test_kv_and_another_type_of_k_contradict_each_other() -> None:
    options = PlanOptions(kv=CacheType.Q8_0, cache_type_k=CacheType.F16)
    with pytest.raises(UsageError, match="different cache types"):
        plan_request("m", options, EngineOptions(), ())


def test_a_reserve_names_a_device_or_is_for_every_gpu() -> None:
    options = PlanOptions(reserve=["CUDA0=2G", "1G", "RAM=3G"], gpus="0, CUDA2")
    limits = plan_request("m", options, EngineOptions(), ()).limits
    assert limits.reserve == (("CUDA0", 2 << 30), ("", 1 << 30), ("ram", 3 << 30))
    assert limits.gpus == ("0", "CUDA2")


def test_the_processor_alone_is_no_gpu() -> None:
    def gpus(given: str | None, *, cpu: bool) -> tuple[str, ...] | None:
        plan = PlanOptions(gpus=given)
        return up_request("m", plan, ServeOptions(cpu=cpu), EngineOptions(), ()).plan.limits.gpus

    assert (gpus(None, cpu=False), gpus("none", cpu=False)) == (None, ())
    assert (gpus(None, cpu=True), gpus(" None", cpu=True)) == ((), ())
    with pytest.raises(UsageError, match="--cpu and --gpus 0 contradict each other"):
        gpus("0", cpu=True)


def test_a_variable_has_a_name_and_a_value() -> None:
    def env(*variables: str) -> tuple[tuple[str, str], ...]:
        options = ServeOptions(env=list(variables))
        return up_request("m", PlanOptions(), options, EngineOptions(), ()).env

    assert env("A=1", "B=", "C=x=y") == (("A", "1"), ("B", ""), ("C", "x=y"))
    for text in ("A", "=1", ""):
        with pytest.raises(UsageError, match="is not NAME=VALUE"):
            env(text)


def test_what_serves_is_kept_apart_from_what_is_planned() -> None:
    options = ServeOptions(mode="thinking", no_retry=True, api_key_file=Path("key"))
    request = up_request("m", PlanOptions(quant="Q4_K_M"), options, EngineOptions(), ("-ub", "64"))
    assert (request.plan.quant, request.plan.mode, request.plan.flags) == (
        "Q4_K_M",
        "thinking",
        ("-ub", "64"),
    )
    assert (request.retry, request.api_key_file) == (False, Path("key").absolute())


def test_without_options_the_machine_is_this_one() -> None:
    assert machine_choice(MachineOptions()) == THIS_MACHINE
