"""Write a planned server as a compose file or a Kubernetes manifest. Pure.

In a container a server listens to every address, so it always has a key: the deployment's, or one that is to
be made. It runs as nobody in particular, writes nothing but /tmp, and sees its files one by one.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from launcher.deployment.install.export import Export, key_files, with_key_check
from launcher.deployment.install.yaml_text import yaml_text
from launcher.engine.flags.taskset import split_taskset
from launcher.errors import UsageError

# llama.cpp's own images (docs/docker.md): the program is /app/llama-server. The tag is a build that has them;
# it is no digest, which only the registry tells.
_REPOSITORY = "ghcr.io/ggml-org/llama.cpp"
_BUILD = "b11026"
_FLAVOURS = {"CUDA": "-cuda", "ROCm": "-rocm", "Vulkan": "-vulkan", "SYCL": "-intel"}
_IS_BUILD = re.compile(r"b\d{4,6}")

_SERVER = "/app/llama-server"
_KEYS = "/keys"
KEY_FILE = "api-key"
_USER = 65532  # nobody's number, as in distroless images
_DEVICE = re.compile(r"\b(CUDA|ROCm|Vulkan|SYCL)(\d+)\b")
KUBERNETES_GPUS = {"CUDA": "nvidia.com/gpu", "ROCm": "amd.com/gpu"}
# Device files of GPUs that need no runtime of their own in the container.
_DEVICE_FILES = {"ROCm": ["/dev/kfd", "/dev/dri"], "Vulkan": ["/dev/dri"], "SYCL": ["/dev/dri"]}


def image_of(export: Export) -> str:
    """Return llama.cpp's image for the devices in use, of the engine's build where that is known."""
    build = export.build if export.build and _IS_BUILD.fullmatch(export.build) else _BUILD
    kinds = _kinds(export)
    return f"{_REPOSITORY}:server{_FLAVOURS[kinds[0]] if kinds else ''}-{build}"


def compose_file(export: Export, image: str | None = None) -> str:
    """Return a compose file of one service, published on this host's loopback unless it was opened."""
    words = _inside(export)
    program = with_key_check((_SERVER, *words))[: -len(words)]
    key = export.api_key_file or f"./{dns_name(export.name)}.key"
    address = f"[{export.publish}]" if ":" in export.publish else export.publish
    service: dict[str, object] = {
        "image": image or image_of(export),
        "user": export.user or f"{_USER}:{_USER}",
        "entrypoint": [_for_compose(word) for word in program],
        "command": [_for_compose(word) for word in words],
        "restart": "on-failure",
        "ports": [f"{address}:{export.port}:{export.port}"],
        "volumes": [f"{_for_compose(host)}:{inside}:ro" for host, inside in export.files],
        # a load may take an hour: a look that fails within it counts for nothing
        "healthcheck": {
            "test": ["CMD", "curl", "-fsS", f"http://127.0.0.1:{export.port}/health"],
            "interval": "30s",
            "timeout": "10s",
            "retries": 4,
            "start_period": "1h",
        },
        "secrets": [{"source": KEY_FILE, "target": f"{_KEYS}/{KEY_FILE}"}],
        "oom_score_adj": 500,
        "ulimits": {"core": 0, "memlock": -1},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        "tmpfs": ["/tmp"],  # noqa: S108  inside the container
    }
    cpus, _ = split_taskset(export.argv)
    if cpus is not None:
        service["cpuset"] = cpus
    environment = {key: _for_compose(value) for key, value in export.env}
    environment |= {name: f"${{{name}:?was given with -e}}" for name in export.secrets}
    if environment:
        service["environment"] = environment
    if export.limit_bytes is not None:
        service["mem_limit"] = export.limit_bytes
        service["mem_reservation"] = export.host_bytes
    service |= _compose_gpus(export)
    made = f"# The key, once: openssl rand -hex 32 > {key}\n" if export.api_key_file is None else ""
    made += _to_be_pinned(image or image_of(export))
    made += "" if export.user else _to_be_readable(export, *filter(None, [export.api_key_file]))
    secrets = {KEY_FILE: {"file": _for_compose(key)}}
    return made + yaml_text({"services": {dns_name(export.name): service}, "secrets": secrets})


def kubernetes_manifest(export: Export, image: str | None = None) -> str:
    """Return a Deployment and its Service; the API key comes from a secret of the deployment's name.

    A Service is open to the whole cluster, so a server that had no key gets one: without the secret it does
    not start. Raises UsageError for GPUs that a cluster has no name for.
    """
    name = dns_name(export.name)
    labels = {"app": name}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_of(export, image)},
        },
    }
    return (
        preparations(export)
        + _to_be_pinned(image or image_of(export))
        + yaml_text(deployment)
        + "---\n"
        + yaml_text(service_of(name, labels, export.port))
    )


def _to_be_pinned(image: str) -> str:
    """Return the comment that an image named by its tag needs; none for one named by its digest."""
    if "@sha256:" in image:
        return ""
    return f"# A tag can be moved. The digest for --image: skopeo inspect docker://{image}\n"


def preparations(export: Export) -> str:
    """Return as comments what has to be done once, before a cluster can start the server."""
    name = dns_name(export.name)
    made = f"# The key, once: kubectl create secret generic {name} --from-file={KEY_FILE}=FILE\n"
    return made + _to_be_readable(export)


def pod_of(export: Export, image: str | None = None) -> dict[str, object]:
    """Return the pod of a server: nobody's user, and no place to write but /tmp.

    Raises UsageError for GPUs that a cluster has no name for.
    """
    return {
        "containers": [_container(export, image or image_of(export))],
        "volumes": _volumes(export, dns_name(export.name)),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,  # may read the secret
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def service_of(name: str, selector: dict[str, str], port: int) -> dict[str, object]:
    """Return the Service of a server, which its cluster can reach."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"selector": selector, "ports": [{"port": port, "targetPort": port}]},
    }


def _to_be_readable(export: Export, *others: str) -> str:
    """Name what nobody's user must be able to read: downloads are often their owner's alone."""
    words = " ".join(shlex.quote(path) for path in (*(host for host, _ in export.files), *others))
    # a comment ends with its line
    return f"# User {_USER} has to read the files: chmod a+r {words}\n" if words.isprintable() else ""


def _container(export: Export, image: str) -> dict[str, object]:
    args = _inside(export, frozenset(KUBERNETES_GPUS))
    limits: dict[str, object] = {} if export.limit_bytes is None else {"memory": str(export.limit_bytes)}
    limits |= _kubernetes_gpus(export)
    health = {"httpGet": {"path": "/health", "port": export.port}}
    return {
        "name": "llama-server",
        "image": image,
        "command": [for_kubernetes(word) for word in with_key_check((_SERVER, *args))[: -len(args)]],
        "args": [for_kubernetes(word) for word in args],
        "env": _variables(export),
        "ports": [{"containerPort": export.port}],
        "volumeMounts": _mounts(export),
        "resources": {"requests": {"memory": str(export.host_bytes)}, "limits": limits},
        "startupProbe": {**health, "periodSeconds": 10, "failureThreshold": 360},
        "livenessProbe": {**health, "periodSeconds": 30, "timeoutSeconds": 10},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _variables(export: Export) -> list[object]:
    known: list[object] = [{"name": name, "value": for_kubernetes(value)} for name, value in export.env]
    secret = dns_name(export.name)
    return known + [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
        for name in export.secrets
    ]


def _folders(export: Export) -> list[str]:
    return list(dict.fromkeys(host.rpartition("/")[0] or "/" for host, _ in export.files))


def _mounts(export: Export) -> list[object]:
    folders = _folders(export)
    files: list[object] = [
        {
            "name": f"models-{folders.index(host.rpartition('/')[0] or '/')}",
            "mountPath": inside,
            "subPath": host.rpartition("/")[2],
            "readOnly": True,
        }
        for host, inside in export.files
    ]
    return [
        *files,
        {"name": "keys", "mountPath": _KEYS, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  inside the container
    ]


def _volumes(export: Export, name: str) -> list[object]:
    models: list[object] = [
        {"name": f"models-{number}", "hostPath": {"path": folder, "type": "Directory"}}
        for number, folder in enumerate(_folders(export))
    ]
    return [*models, {"name": "keys", "secret": {"secretName": name}}, {"name": "tmp", "emptyDir": {}}]


def _kinds(export: Export) -> list[str]:
    return sorted({match[1] for device in export.devices if (match := _DEVICE.fullmatch(device))})


def _compose_gpus(export: Export) -> dict[str, object]:
    kinds = _kinds(export)
    if not kinds:
        return {}
    if kinds[0] == "CUDA":
        cuda = [device for device in export.devices if device.startswith("CUDA")]
        uuids = [uuid for device, uuid in export.uuids if device in cuda]
        which: dict[str, object] = {"device_ids": uuids} if len(uuids) == len(cuda) else {"count": len(cuda)}
        asked = {"driver": "nvidia", **which, "capabilities": ["gpu"]}
        return {"deploy": {"resources": {"reservations": {"devices": [asked]}}}}
    return {
        "devices": [f"{path}:{path}" for path in _DEVICE_FILES[kinds[0]]],
        "group_add": ["video", "render"],
    }


def _kubernetes_gpus(export: Export) -> dict[str, object]:
    counts: dict[str, object] = {}
    for kind in _kinds(export):
        if kind not in KUBERNETES_GPUS:
            raise UsageError(
                f"the server uses {', '.join(export.devices)}, and a cluster has no resource for {kind}",
                hint="launcher export compose",
            )
        counts[KUBERNETES_GPUS[kind]] = sum(device.startswith(kind) for device in export.devices)
    return counts


def _inside(export: Export, chosen: frozenset[str] = frozenset({"CUDA"})) -> tuple[str, ...]:
    """Return the options as they are inside: where files are mounted, GPUs anew from 0, every address."""
    words = list(split_taskset(export.argv)[1][1:])
    paths = sorted(export.inside, key=lambda pair: len(pair[0]), reverse=True)
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        if before == "--host":
            words[index] = "0.0.0.0"  # noqa: S104  in the container; the file says where it is published
        elif before == "--api-key-file":
            words[index] = f"{_KEYS}/{KEY_FILE}"
        else:
            words[index] = _renumbered(_moved(word, paths), export, chosen)
    if "--host" not in words:
        words += ["--host", "0.0.0.0"]  # noqa: S104
    if not key_files(("llama-server", *words)):
        words += ["--api-key-file", f"{_KEYS}/{KEY_FILE}"]
    return tuple(words)


def _moved(word: str, paths: Sequence[tuple[str, str]]) -> str:
    for host, inside in paths:
        # a path alone, or one of several with a scale: FILE:0.5,FILE
        word = re.sub(rf"(?<![^,]){re.escape(host)}(?=$|[,:])", lambda _, to=inside: to, word)  # type: ignore[misc]
    return word


def _renumbered(word: str, export: Export, chosen: frozenset[str]) -> str:
    # A container that is given CUDA1 alone calls it CUDA0; of kinds that are not chosen it sees all.
    numbers: dict[str, str] = {}
    for kind in chosen.intersection(_kinds(export)):
        own = [device for device in export.devices if device.startswith(kind)]
        numbers |= {
            device: f"{kind}{number}"
            for number, device in enumerate(sorted(own, key=lambda each: int(each[len(kind) :])))
        }
    return _DEVICE.sub(lambda match: numbers.get(match[0], match[0]), word)


def _for_compose(text: str) -> str:
    return text.replace("$", "$$")  # compose-spec, interpolation


def for_kubernetes(text: str) -> str:
    return text.replace("$(", "$$(")  # $(NAME) is a variable, in the command and in values


def dns_name(name: str) -> str:
    # Kubernetes takes at most 63 of a to z, 0 to 9 and '-' (RFC 1123).
    return "".join(char if char.isalnum() else "-" for char in name)[:63].strip("-")
