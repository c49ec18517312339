"""Make the requests that `commands` take from options as typed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cli.options.bundles import EngineOptions, MachineOptions, PlanOptions
from launcher.cli.options.serving import ServeOptions
from launcher.commands.probe import MachineChoice
from launcher.engine.environment import is_variable_name
from launcher.engine.flags.user_flags import take_token
from launcher.errors import UsageError
from launcher.plan.workload import NO_GPUS, Limits, Workload
from launcher.system.settings import expand_home
from launcher.units import parse_size

if (
    TYPE_CHECKING
):  # `models` and `recommend` take a machine from here, and need neither planner nor supervisor
    from launcher.commands.planned import PlanRequest
    from launcher.commands.up.request import UpRequest


def plan_request(
    ref: str, plan_options: PlanOptions, engine_options: EngineOptions, flags: tuple[str, ...]
) -> PlanRequest:
    """Make the request to plan for this machine; `flags` are llama-server's own.

    Raises UsageError for options that contradict each other.
    """
    from launcher.commands.planned import PlanRequest

    return PlanRequest(
        ref=ref,
        quant=plan_options.quant,
        workload=_workload(plan_options),
        limits=_limits(plan_options),
        engine=engine_options.engine,
        flags=take_token(flags)[0],
        untuned=plan_options.untuned,
        vision=not plan_options.no_vision,
    )


def up_request(
    ref: str,
    plan_options: PlanOptions,
    serve_options: ServeOptions,
    engine_options: EngineOptions,
    flags: tuple[str, ...],
    *,
    locked: Path | None = None,
) -> UpRequest:
    """Make the request to start a server. Raises UsageError for an `-e` that is not K=V."""
    from launcher.commands.up.request import UpRequest

    plan = plan_request(ref, _on_processor(plan_options, serve_options), engine_options, flags)
    token = take_token(flags)[1]
    typed = () if token is None else (("HF_TOKEN", token),)
    key_file = serve_options.api_key_file  # made absolute: a record names it, for other folders too
    return UpRequest(
        plan=replace(plan, mode=serve_options.mode),
        name=serve_options.name,
        host=serve_options.host,
        port=serve_options.port,
        api_key_file=key_file and expand_home(key_file).absolute(),
        env=(*typed, *(_variable(text) for text in serve_options.env or ())),
        retry=not serve_options.no_retry,
        canary=serve_options.canary,
        locked=locked,
        cpu_alone=serve_options.yes,
    )


def _on_processor(plan_options: PlanOptions, serve_options: ServeOptions) -> PlanOptions:
    """Return the options of the plan with what --cpu means. Raises UsageError if --gpus says otherwise."""
    if not serve_options.cpu:
        return plan_options
    if plan_options.gpus is not None and _gpus(plan_options.gpus):
        raise UsageError(
            f"--cpu and --gpus {plan_options.gpus} contradict each other", hint="leave one of them out"
        )
    return replace(plan_options, gpus=NO_GPUS)


def is_vllm(options: EngineOptions) -> bool:
    """Tell if vLLM is asked for instead of a llama-server."""
    return options.engine is not None and options.engine.name == "vllm"


def machine_choice(options: MachineOptions) -> MachineChoice:
    """Return the machine to plan for. Raises UsageError for several."""
    names = options.machine or []
    if len(names) > 1:
        raise UsageError(
            f"--machine {names[0]} and --machine {names[1]} name two machines, and this is about one",
            hint=f"launcher plan REF --machine {names[0]} --machine {names[1]} plans for both together",
        )
    return MachineChoice(
        name=names[0] if names else None,
        gpus=tuple(options.gpu or ()),
        ram_bytes=options.ram,
        cpu=options.cpu,
        sockets=options.sockets,
        ram_bandwidth=options.ram_bandwidth,
    )


def workload_and_limits(options: PlanOptions) -> tuple[Workload, Limits]:
    """Return what is asked of a plan. Raises UsageError; --quant names a GGUF file, and vLLM has none."""
    if options.quant is not None:
        raise UsageError("--quant names a GGUF file, and vLLM serves safetensors", hint="leave --quant out")
    return _workload(options), _limits(options)


def _workload(options: PlanOptions) -> Workload:
    if options.kv is not None and not {options.cache_type_k, options.cache_type_v} <= {None, options.kv}:
        raise UsageError(
            f"--kv {options.kv} and -ctk or -ctv name different cache types", hint="leave one of them out"
        )
    return Workload(
        ctx_size=options.ctx_size,
        n_parallel=options.n_parallel,
        cache_type_k=options.kv or options.cache_type_k,
        cache_type_v=options.kv or options.cache_type_v,
        batch_size=options.batch_size,
        ubatch_size=options.ubatch_size,
        cache_ram_bytes=options.cache_ram,
        prefer=options.prefer,
        min_tps=options.min_tps,
        from_disk=options.from_disk,
        numa=options.numa,
    )


def _limits(options: PlanOptions) -> Limits:
    return Limits(
        reserve=tuple(_reserve(text) for text in options.reserve or ()),
        gpus=None if options.gpus is None else _gpus(options.gpus),
        max_ram_bytes=options.max_ram,
    )


def _gpus(text: str) -> tuple[str, ...]:
    return () if text.strip().lower() == NO_GPUS else tuple(gpu.strip() for gpu in text.split(","))


def _reserve(text: str) -> tuple[str, int]:
    """Parse `CUDA0=2G` to (`CUDA0`, bytes); `2G` is for every GPU and gives an empty device."""
    where, _, size = text.rpartition("=")
    return ("ram" if where.lower() == "ram" else where), parse_size(size)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (is_variable_name(name) and equals):
        raise UsageError(f"-e {text!r} is not NAME=VALUE", hint="-e GGML_CUDA_DISABLE_GRAPHS=1")
    return name, value
