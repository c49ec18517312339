"""Bring a model up on vLLM, watched and restarted like a llama-server."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from launcher.commands.claims import by_memory, claim, driver_of, unreserved_machine
from launcher.commands.here import Here
from launcher.commands.probe import THIS_MACHINE
from launcher.commands.up.request import UpRequest, look_up
from launcher.commands.vllm.gpus import is_for_vllm
from launcher.commands.vllm.plan import VllmPlanned, plan_for_vllm, vllm_document
from launcher.deployment import claims
from launcher.deployment.deploy import Request, bring_up
from launcher.deployment.options import SupervisorOptions
from launcher.deployment.record import Deployment
from launcher.deployment.supervisor.ready import StallLimits
from launcher.engine.environment import engine_env, is_secret
from launcher.engine.vllm_with_key import VARIABLE, with_key_file
from launcher.errors import NotFound, UsageError
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST
from launcher.plan.from_json import StoredPlan
from launcher.plan.vllm.argv import VllmServing
from launcher.units import GIB

_CACHE_IN_RAM = "VLLM_CPU_KVCACHE_SPACE"  # GiB
# Before it answers it compiles, in short-lived processes whose work is not seen: 6 minutes of nothing were
# watched on two busy cores.
_LIMITS = StallLimits(idle_s=900.0, busy_s=3600.0)
_ALWAYS = {
    "VLLM_NO_USAGE_STATS": "1",
    # Its processes outlive it, with the memory of GPUs, and are found by a variable of theirs: setproctitle
    # is not to write their titles over it.
    "SPT_NOENV": "1",
}


def up_vllm(here: Here, request: UpRequest) -> Deployment:
    """Plan and start vLLM here; return it once it has produced a token.

    Raises DoesNotFit unless it surely fits, NotFound without vLLM, and what `bring_up` raises.
    """
    _refuse_others(request)
    asked = request.plan
    machine = unreserved_machine(here, THIS_MACHINE)
    planned = plan_for_vllm(here, asked.ref, asked.workload, asked.limits, asked.flags, [machine])
    named = look_up(here, request, planned.model.model_id)
    if named.running is not None:
        return named.running
    planned.check_fits()
    program = _program(asked.engine, planned)
    key = claims.claim_key(here.settings.deployments_dir, named.name)
    claim(here, key, named.name, _rows(planned, machine), os.getpid())
    env, dropped = engine_env(here.env, dict(request.env))
    try:
        return bring_up(
            here.settings.deployments_dir,
            Request(
                name=named.name,
                model_id=planned.model.model_id,
                model_path=Path(planned.plan.shape.source),
                model_bytes=planned.plan.shape.weight_bytes,
                stored_plan=StoredPlan(document=vllm_document(planned), plan=None),
                plan_hash=named.request_hash,
                argv_for=lambda port: _argv(planned, request, program, port),
                env=env | _variables(planned),
                env_dropped=dropped,
                host=request.host,
                port=request.port,
                api_key_file=request.api_key_file,
                engine_path=Path(program),
                options=_options(here, request, planned, machine),
            ),
            on_progress=here.on_progress,
            limits=_LIMITS,
        )
    except BaseException:
        claims.drop_claim(here.settings.claims_dir, key)
        raise


def _options(here: Here, request: UpRequest, planned: VllmPlanned, machine: Machine) -> SupervisorOptions:
    kept = {name: value for name, value in request.env if not is_secret(name, value)}
    return SupervisorOptions(
        keep_up=request.keep_up and request.retry,
        history=str(here.settings.history_file.absolute()),
        driver=driver_of(machine),
        claim=_rows(planned, machine),
        claim_folder=str(here.settings.claims_dir.absolute()),
        env=kept | _variables(planned),
    )


def _argv(planned: VllmPlanned, request: UpRequest, program: str, port: int) -> tuple[str, ...]:
    serving = VllmServing(model_id=planned.model.model_id, host=request.host, port=port, program=program)
    key = request.api_key_file
    return with_key_file(planned.command_lines(serving)[0], None if key is None else str(key.absolute()))


def _variables(planned: VllmPlanned) -> dict[str, str]:
    gib = planned.plan.ram_cache_gib
    return _ALWAYS | ({} if gib is None else {_CACHE_IN_RAM: str(gib)})


def _rows(planned: VllmPlanned, machine: Machine) -> dict[str, int]:
    """Return what is reserved, by device and RAM: vLLM takes its whole share of a GPU."""
    plan = planned.plan
    if (gib := plan.ram_cache_gib) is not None:
        return by_memory({HOST: plan.ledger.weights + plan.ledger.runtime.low + gib * GIB}, machine)
    devices = [device.id for device in machine.devices if is_for_vllm(device, plan.pool)]
    return by_memory(dict.fromkeys(devices[: plan.tp * plan.pp], plan.ledger.budget), machine)


def _program(engine: Path | None, planned: VllmPlanned) -> str:
    """Return vLLM's program: at the path that was typed, else on PATH. Raises NotFound."""
    found = str(engine.absolute()) if engine is not None and engine.is_file() else shutil.which("vllm")
    if found is None:
        line = shlex.join(planned.command_lines()[0])
        raise NotFound(
            "there is no program vllm here, and launcher does not bring it",
            hint=f"pip install vllm, then --engine FOLDER/bin/vllm; it runs {line}",
        )
    return found


def _refuse_others(request: UpRequest) -> None:
    for given, flag in ((request.canary, "--canary"), (request.plan.mode, "--mode")):
        if given:
            raise UsageError(f"{flag} is llama-server's, and this is vLLM", hint=f"leave {flag} out")
    if VARIABLE in dict(request.env):
        raise UsageError(f"-e {VARIABLE} is not read here", hint="--api-key-file FILE")
