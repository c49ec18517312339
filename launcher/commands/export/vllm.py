"""Write the ranks of a vLLM plan for schedulers."""

from __future__ import annotations

from pathlib import Path

from launcher.commands.export.planned import Elsewhere
from launcher.commands.export.written import OF_RANKS, written_ranks
from launcher.commands.vllm.plan import VllmPlanned
from launcher.deployment.address import check_exposure
from launcher.deployment.install.export import Format
from launcher.deployment.install.ranks import HEAD, RANK, Ranks
from launcher.deployment.record import deployment_name
from launcher.engine.vllm_with_key import VARIABLE
from launcher.errors import UsageError
from launcher.plan.vllm.argv import VllmServing, vllm_argv
from launcher.units import GIB

# vLLM's own image, of the release whose defaults the plan counts with.
_IMAGE = "vllm/vllm-openai:v0.32.0"
_HOST_BYTES = 32 * GIB  # of RAM: files are mapped, and each rank keeps some GiB; estimated


def export_vllm(planned: VllmPlanned, place: Elsewhere, format_: Format, image: str | None = None) -> str:
    """Write the plan. Raises DoesNotFit unless it surely fits, UsageError for formats that have no ranks."""
    if format_ not in OF_RANKS:
        raise UsageError(
            f"export {format_} is for llama-server", hint="launcher export lws, sbatch or skypilot"
        )
    planned.check_fits()
    plan = planned.plan
    if plan.pool.in_ram:
        raise UsageError("ranks of vLLM are exported for GPUs", hint="--machine with GPUs, or --gpu")
    in_pods = format_ is Format.LWS
    if not in_pods:
        check_exposure(place.host, None if place.api_key_file is None else Path(place.api_key_file))
    serving = VllmServing(
        model_id=planned.model.model_id, host=place.host, port=place.port, head=HEAD, flags=planned.flags
    )
    ranks = Ranks(
        name=deployment_name(planned.model.model_id),
        model_id=planned.model.model_id,
        nodes=plan.nodes,
        head=vllm_argv(plan, serving),
        others=vllm_argv(plan, serving, RANK) if plan.nodes > 1 else (),
        port=place.port,
        host_bytes=_HOST_BYTES,
        gpu_kind="ROCm" if "AMD" in plan.pool.name else "CUDA",
        gpu_name=plan.pool.name,
        n_gpus=plan.tp * plan.pp // plan.nodes,
        image=image or _IMAGE,
        models=place.folder,
        key_file=place.api_key_file,
        key_variable=VARIABLE if in_pods or place.api_key_file is not None else None,
    )
    return written_ranks(ranks, format_)
