"""Options as typed -> requests as `launch` takes them."""

from __future__ import annotations

from launcher.cli.options import EngineOptions, MachineOptions, PlanOptions, ServeOptions
from launcher.errors import UsageError
from launcher.inventory import MachineChoice
from launcher.launch import PlanRequest, UpRequest
from launcher.plan.plan import Workload


def plan_request(
    ref: str,
    wanted: PlanOptions,
    engine: EngineOptions,
    flags: tuple[str, ...],
    *,
    machine: MachineOptions | None = None,
    mode: str | None = None,
) -> PlanRequest:
    """What to plan."""
    workload = Workload(
        ctx_size=wanted.ctx_size,
        n_parallel=wanted.n_parallel,
        cache_type_k=wanted.cache_type_k,
        cache_type_v=wanted.cache_type_v,
        batch_size=wanted.batch_size,
        ubatch_size=wanted.ubatch_size,
        cache_ram_bytes=wanted.cache_ram,
    )
    machine = machine or MachineOptions()
    return PlanRequest(
        ref=ref,
        quant=wanted.quant,
        workload=workload,
        machine=MachineChoice(name=machine.machine, gpus=tuple(machine.gpu or ()), ram_bytes=machine.ram),
        engine=engine.engine,
        flags=flags,
        mode=mode,
    )


def up_request(
    ref: str, wanted: PlanOptions, serve: ServeOptions, engine: EngineOptions, flags: tuple[str, ...]
) -> UpRequest:
    """What to bring up, and where. Raises UsageError for an `-e` that is not K=V."""
    return UpRequest(
        plan=plan_request(ref, wanted, engine, flags, mode=serve.mode),
        name=serve.name,
        host=serve.host,
        port=serve.port,
        api_key_file=serve.api_key_file and serve.api_key_file.expanduser().absolute(),
        env=tuple(_variable(text) for text in serve.env or ()),
        retry=not serve.no_retry,
        canary=serve.canary,
    )


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UsageError(f"-e {text!r} is not NAME=VALUE", hint="write it like -e GGML_CUDA_DISABLE_GRAPHS=1")
    return name, value
