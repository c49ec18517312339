"""Write a server in the format that is asked for."""

from __future__ import annotations

from launcher.deployment.install.containers import (
    KUBERNETES_GPUS,
    compose_file,
    dns_name,
    image_of,
    kubernetes_manifest,
    pod_of,
    preparations,
)
from launcher.deployment.install.export import (
    Export,
    Format,
    shell_script,
    systemd_unit,
    with_key_check,
)
from launcher.deployment.install.ranks import (
    Ranks,
    lws_manifest,
    lws_of,
    pod_template_of,
    sbatch_script,
    skypilot_task,
)

# Where containers see the files of a server, each under a number of its own: names may be the same.
MODELS = "/models"

OF_RANKS = (Format.LWS, Format.SBATCH, Format.SKYPILOT)


def written(server: Export, format_: Format, image: str | None) -> str:
    """Write a server of llama.cpp. Raises UsageError for what the format cannot have."""
    match format_:
        case Format.SYSTEMD:
            return systemd_unit(server)
        case Format.SHELL:
            return shell_script(server)
        case Format.COMPOSE:
            return compose_file(server, image)
        case Format.KUBERNETES:
            return kubernetes_manifest(server, image)
        case Format.LWS:
            name = dns_name(server.name)
            group = pod_template_of(name, pod_of(server, image))
            return preparations(server) + lws_of(name, group, server.port)
        case Format.SBATCH | Format.SKYPILOT:
            return written_ranks(ranks_of(server, image), format_)


def written_ranks(ranks: Ranks, format_: Format) -> str:
    """Write ranks for their scheduler."""
    match format_:
        case Format.LWS:
            return lws_manifest(ranks)
        case Format.SBATCH:
            return sbatch_script(ranks)
        case _:
            return skypilot_task(ranks)


def ranks_of(server: Export, image: str | None) -> Ranks:
    """Return the server as the only rank there is."""
    kinds = [name for name in KUBERNETES_GPUS for device in server.devices if device.startswith(name)]
    given = tuple(f"{name}={value}" for name, value in server.env)
    head = with_key_check(server.argv)
    return Ranks(
        name=server.name,
        model_id=server.model_id,
        nodes=1,
        head=("env", *given, *head) if given else head,
        port=server.port,
        host_bytes=server.limit_bytes or server.host_bytes,
        gpu_kind=kinds[0] if kinds else None,
        gpu_name=server.gpu_name,
        n_gpus=len(server.devices),
        image=image or image_of(server),
    )
