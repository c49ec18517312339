"""From options as typed to requests as `commands` takes them."""

from __future__ import annotations

from pathlib import Path

from launcher.cli.options import EngineOptions, MachineOptions, PlanOnlyOptions, PlanOptions, ServeOptions
from launcher.commands.planned import PlanRequest
from launcher.commands.probe import MachineChoice
from launcher.commands.up.request import UpRequest
from launcher.errors import UsageError
from launcher.plan.workload import Limits, Workload
from launcher.system.settings import expand_home
from launcher.units import parse_size


def plan_request(
    ref: str,
    wanted: PlanOptions,
    engine: EngineOptions,
    flags: tuple[str, ...],
    *,
    machine: MachineOptions | None = None,
    mode: str | None = None,
    only: PlanOnlyOptions | None = None,
) -> PlanRequest:
    """What to plan."""
    if wanted.kv is not None and not {wanted.cache_type_k, wanted.cache_type_v} <= {None, wanted.kv}:
        raise UsageError(
            f"--kv {wanted.kv} and -ctk or -ctv name different cache types", hint="leave one of them out"
        )
    workload = Workload(
        ctx_size=wanted.ctx_size,
        n_parallel=wanted.n_parallel,
        cache_type_k=wanted.kv or wanted.cache_type_k,
        cache_type_v=wanted.kv or wanted.cache_type_v,
        batch_size=wanted.batch_size,
        ubatch_size=wanted.ubatch_size,
        cache_ram_bytes=wanted.cache_ram,
        prefer=wanted.prefer,
        min_tps=wanted.min_tps,
        numa=wanted.numa,
    )
    limits = Limits(
        reserve=tuple(_reserve(text) for text in wanted.reserve or ()),
        gpus=None if wanted.gpus is None else tuple(part.strip() for part in wanted.gpus.split(",")),
        max_ram_bytes=wanted.max_ram,
    )
    machine = machine or MachineOptions()
    return PlanRequest(
        ref=ref,
        quant=wanted.quant,
        workload=workload,
        limits=limits,
        machine=MachineChoice(name=machine.machine, gpus=tuple(machine.gpu or ()), ram_bytes=machine.ram),
        engine=engine.engine,
        flags=flags,
        mode=mode,
        buy=only is not None and only.buy,
    )


def up_request(
    ref: str,
    wanted: PlanOptions,
    serve: ServeOptions,
    engine: EngineOptions,
    flags: tuple[str, ...],
    *,
    locked: Path | None = None,
) -> UpRequest:
    """What to bring up, and where. Raises UsageError for an `-e` that is not K=V."""
    return UpRequest(
        plan=plan_request(ref, wanted, engine, flags, mode=serve.mode),
        name=serve.name,
        host=serve.host,
        port=serve.port,
        api_key_file=serve.api_key_file and expand_home(serve.api_key_file).absolute(),
        env=tuple(_variable(text) for text in serve.env or ()),
        retry=not serve.no_retry,
        canary=serve.canary,
        locked=locked,
    )


def _reserve(text: str) -> tuple[str, int]:
    """`CUDA0=2G` -> (`CUDA0`, bytes); `2G` is for every GPU."""
    where, _, size = text.rpartition("=")
    return ("ram" if where.lower() == "ram" else where), parse_size(size)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError(f"-e {text!r} is not NAME=VALUE", hint="write it like -e GGML_CUDA_DISABLE_GRAPHS=1")
    return name, value
