"""Write a planned server as systemd unit, compose file, Kubernetes manifest or script. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from launcher.engine.flags.listening import listening
from launcher.engine.flags.taskset import split_taskset

# Where a container sees the model and the key.
_MODELS = "/models"
_KEYS = "/keys"
_KEY_FILE = "api-key"  # of the secret that holds the key of a server that had none

# Every start looks: a key file may be emptied while nothing runs, and llama-server takes an empty one for no
# key. $0 is the file; as llama-server reads it, a line that is neither empty nor a comment is a key.
_NEEDS_KEY = """grep -q '^[^#]' "$0" || { echo "the API key file $0 holds no key" >&2; exit 78; }"""


class Format(StrEnum):
    SYSTEMD = "systemd"
    COMPOSE = "compose"
    KUBERNETES = "kubernetes"
    SHELL = "shell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A server to run elsewhere."""

    name: str
    model_id: str
    argv: tuple[str, ...]  # the whole command line
    model_folder: str  # what a container needs to see
    port: int
    host_bytes: int  # the ledger's
    limit_bytes: int | None  # as `up` sets it; None: no limit
    n_cuda: int = 0
    api_key_file: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()  # names of variables that it needs, and whose values no file keeps
    ready: tuple[str, ...] | None = None  # returns once the server has produced a token


def systemd_unit(export: Export, *, system: bool = False) -> str:
    """Return a hardened unit (systemd.exec(5)): it reads the model, binds its port, and little else."""
    # A mount namespace is for the system's units alone: a user's systemd makes a user namespace for it, which
    # systems forbid (Ubuntu 24.04) or containers fail at (226/NAMESPACE, seen), and the service would not
    # start.
    mounts = "ProtectSystem=strict\nProtectControlGroups=yes\nProtectKernelTunables=yes\n" if system else ""
    limit = "" if export.limit_bytes is None else f"MemoryMax={export.limit_bytes}\n"
    environment = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in export.env)
    if export.secrets:
        environment += f"PassEnvironment={' '.join(export.secrets)}\n"
    ready = "" if export.ready is None else f"ExecStartPost={_line(export.ready)}\n"
    checked = "".join(
        f"ExecStartPre={_line(('/bin/sh', '-c', _NEEDS_KEY, path))}\n" for path in _key_files(export.argv)
    )
    return f"""\
[Unit]
Description=llama-server: {_escaped(export.model_id)}
After=network.target
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=exec
{checked}\
ExecStart={_line(export.argv)}
{ready}{environment}\
Restart=on-failure
RestartSec=2
TimeoutStartSec=infinity
TimeoutStopSec=20
{limit}\
OOMScoreAdjust=500
LimitCORE=0
UMask=0077
NoNewPrivileges=yes
{mounts}\
RestrictSUIDSGID=yes
LockPersonality=yes
RestrictRealtime=yes

[Install]
WantedBy={"multi-user.target" if system else "default.target"}
"""


def shell_script(export: Export) -> str:
    variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in export.env)
    variables += "".join(f': "${{{name}:?was given with -e}}"\n' for name in export.secrets)
    words = " ".join(map(shlex.quote, _checked(export.argv)))
    return f"#!/bin/sh\n# {_one_line(export.model_id)}\nulimit -c 0\n{variables}exec {words}\n"


def compose_file(export: Export, image: str) -> str:
    """Return a compose file of one service, its port on this host's loopback alone."""
    words = _inside(export)
    program = _checked(("/app/llama-server", *words))[: -len(words)]
    service: dict[str, object] = {
        "image": image,
        "entrypoint": [_for_compose(word) for word in program],
        "command": [_for_compose(word) for word in words],
        "restart": "on-failure",
        "ports": [f"127.0.0.1:{export.port}:{export.port}"],
        "volumes": [f"{export.model_folder}:{_MODELS}:ro", *_key_mount(export)],
        "oom_score_adj": 500,
        "ulimits": {"core": 0, "memlock": -1},
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
    if export.n_cuda:
        gpus = {"driver": "nvidia", "count": export.n_cuda, "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [gpus]}}}
    return _yaml({"services": {_dns(export.name): service}})


def kubernetes_manifest(export: Export, image: str) -> str:
    """Return a Deployment and its Service; the API key comes from a secret of the deployment's name.

    A Service is open to the whole cluster, so a server that had no key gets one: without the secret it does
    not start.
    """
    name = _dns(export.name)
    labels = {"app": name}
    pod = {"containers": [_container(export, image)], "volumes": _volumes(export, name)}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": labels},
        "spec": {"selector": labels, "ports": [{"port": export.port, "targetPort": export.port}]},
    }
    return _yaml(deployment) + "---\n" + _yaml(service)


def _container(export: Export, image: str) -> dict[str, object]:
    mounts: list[object] = [
        {"name": "models", "mountPath": _MODELS, "readOnly": True},
        {"name": "keys", "mountPath": _KEYS, "readOnly": True},
    ]
    args = _inside(export)
    if not _key_files(("llama-server", *args)):
        args = (*args, "--api-key-file", f"{_KEYS}/{_KEY_FILE}")
    limits: dict[str, object] = {} if export.limit_bytes is None else {"memory": str(export.limit_bytes)}
    if export.n_cuda:
        limits["nvidia.com/gpu"] = export.n_cuda
    health = {"httpGet": {"path": "/health", "port": export.port}}
    return {
        "name": "llama-server",
        "image": image,
        "command": [_for_kubernetes(word) for word in _checked(("/app/llama-server", *args))[: -len(args)]],
        "args": [_for_kubernetes(word) for word in args],
        "env": _variables(export),
        "ports": [{"containerPort": export.port}],
        "volumeMounts": mounts,
        "resources": {"requests": {"memory": str(export.host_bytes)}, "limits": limits},
        "startupProbe": {**health, "periodSeconds": 10, "failureThreshold": 360},
        "livenessProbe": {**health, "periodSeconds": 30, "timeoutSeconds": 10},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def _variables(export: Export) -> list[object]:
    known: list[object] = [{"name": name, "value": _for_kubernetes(value)} for name, value in export.env]
    secret = _dns(export.name)
    return known + [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
        for name in export.secrets
    ]


def _volumes(export: Export, name: str) -> list[object]:
    models = {"name": "models", "hostPath": {"path": export.model_folder, "type": "Directory"}}
    return [models, {"name": "keys", "secret": {"secretName": name}}]


def _key_files(argv: Sequence[str]) -> tuple[str, ...]:
    return listening(argv).key_files


def _checked(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words that look for the key, if there is to be one, and become the server."""
    for path in _key_files(argv):
        argv = ("/bin/sh", "-c", f'{_NEEDS_KEY}; exec "$@"', path, *argv)
    return argv


def _for_compose(text: str) -> str:
    return text.replace("$", "$$")  # compose-spec, interpolation


def _for_kubernetes(text: str) -> str:
    return text.replace("$(", "$$(")  # $(NAME) is a variable, in the command and in values


def _inside(export: Export) -> tuple[str, ...]:
    # Inside a container: the mounted model and key, every address.
    words = list(split_taskset(export.argv)[1][1:])
    for index, word in enumerate(words[:-1]):
        value = words[index + 1]
        if word in {"-m", "--model"}:
            words[index + 1] = f"{_MODELS}/{value.rpartition('/')[2]}"
        elif word == "--host":
            words[index + 1] = "0.0.0.0"  # noqa: S104  in the container; the file says where it is published
        elif word == "--api-key-file":
            words[index + 1] = f"{_KEYS}/{value.rpartition('/')[2]}"
    return tuple(words)


def _key_mount(export: Export) -> list[str]:
    if export.api_key_file is None:
        return []
    return [f"{export.api_key_file}:{_KEYS}/{export.api_key_file.rpartition('/')[2]}:ro"]


def _dns(name: str) -> str:
    # Kubernetes takes at most 63 of a to z, 0 to 9 and '-' (RFC 1123).
    return "".join(char if char.isalnum() else "-" for char in name)[:63].strip("-")


def _line(words: Sequence[str]) -> str:
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    # systemd.service(5), COMMAND LINES
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    escaped = "".join(char if char.isprintable() else _escape(char) for char in escaped)
    quoted = not word or not word.isprintable() or any(char in word for char in " '\"\\;")
    return f'"{escaped}"' if quoted else escaped


def _escape(char: str) -> str:
    # A line end would begin another setting.
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", errors="surrogateescape"))


def _escaped(text: str) -> str:
    return _one_line(text).replace("%", "%%")


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _yaml(value: object, indent: int = 0) -> str:
    pad = "  " * indent
    if isinstance(value, Mapping):
        return "".join(f"{pad}{key}:{_yaml_value(item, indent)}" for key, item in value.items())
    if isinstance(value, list):
        return "".join(f"{pad}-{_yaml_value(item, indent)}" for item in value)
    raise TypeError(f"{value!r} is neither mapping nor list")


def _yaml_value(item: object, indent: int) -> str:
    if isinstance(item, Mapping | list):
        empty = "{}" if isinstance(item, Mapping) else "[]"
        return "\n" + _yaml(item, indent + 1) if item else f" {empty}\n"
    if isinstance(item, bool):
        return f" {'true' if item else 'false'}\n"
    if isinstance(item, int):
        return f" {item}\n"
    quoted = json.dumps(str(item), ensure_ascii=False)  # as JSON quotes a string, which YAML takes
    escaped = (char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
    return f" {''.join(escaped)}\n"
