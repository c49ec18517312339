"""Write the ranks of a server for schedulers: LeaderWorkerSet, Slurm, SkyPilot. Pure.

A rank is what one machine runs. The first is the head, which listens: on its loopback, unless a key is given.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.deployment.install.containers import (
    KEY_FILE,
    KUBERNETES_GPUS,
    dns_name,
    for_kubernetes,
    service_of,
)
from launcher.deployment.install.yaml_text import yaml_text
from launcher.errors import UsageError
from launcher.units import GIB, MIB

# Words of a command that a scheduler fills in.
HEAD = "@head"  # the head's address
RANK = "@rank"  # this machine's number, 0 is the head's

_LEADER = {"role": "leader"}
_HF_HOME = "/models"
_SSH = "ssh -N -o BatchMode=yes -o ExitOnForwardFailure=yes -o ServerAliveInterval=3 -o ServerAliveCountMax=2"
# no pipe into `head`: it ends early, and under pipefail that would end the job
_NODES = 'mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")'
_STARTS = "for try in $(seq 300); do (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && break; sleep 1; done"

# SkyPilot's own names (sky show-gpus), by NVIDIA's
_SKY_GPUS = (
    (r"\bGB200\b", "GB200"),
    (r"\bB200\b", "B200"),
    (r"\bB300\b", "B300"),
    (r"\bH200\b", "H200"),
    (r"\bH100\b", "H100"),
    (r"\bA100\b.*80 ?GB", "A100-80GB"),
    (r"\bA100\b", "A100"),
    (r"\bL40S\b", "L40S"),
    (r"\bL40\b", "L40"),
    (r"\bL4\b", "L4"),
    (r"\bA10G\b", "A10G"),
    (r"\bA10\b", "A10"),
    (r"\bT4\b", "T4"),
    (r"\bRTX 5090\b", "RTX5090"),
    (r"\bRTX 4090\b", "RTX4090"),
    (r"\bRTX 3090\b", "RTX3090"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """One server on one machine or several equal ones."""

    name: str
    model_id: str
    nodes: int
    head: tuple[str, ...]
    others: tuple[str, ...] = ()  # the command of each further machine
    tunnels: tuple[int, ...] = ()  # ports at the head, each led by ssh to `tunnel_port` of the next machine
    tunnel_port: int = 0
    port: int
    host_bytes: int  # of RAM, on each machine
    gpu_kind: str | None  # CUDA, ROCm
    gpu_name: str
    n_gpus: int  # on each machine
    image: str
    models: str = "/srv/models"  # the folder of models, there
    key_file: str | None = None  # there
    key_variable: str | None = None  # that the server reads its key from


def sbatch_script(ranks: Ranks) -> str:
    """Return a batch script for Slurm. Each node runs its rank; one that ends takes the others with it."""
    name = dns_name(ranks.name)
    wanted = [
        f"--job-name={name}",
        f"--nodes={ranks.nodes}",
        "--ntasks-per-node=1",
        f"--mem={-(-ranks.host_bytes // MIB)}M",
        f"--output={name}-%j.log",
    ]
    if ranks.n_gpus:
        wanted.append(f"--gpus-per-node={ranks.n_gpus}")
    body = _by_rank(ranks, _head_of(ranks), "$SLURM_PROCID")
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in wanted),
        f"# {_one_line(ranks.model_id)}: reach it by ssh -L {ranks.port}:127.0.0.1:{ranks.port} HEAD",
        "set -euo pipefail",
        "ulimit -c 0",
        _NODES,
        'head="${nodes[0]}"',
        "export head",
        f"srun --kill-on-bad-exit=1 --export=ALL bash -c {shlex.quote(body)}",
    ]
    return "\n".join(lines) + "\n"


def skypilot_task(ranks: Ranks) -> str:
    """Return a SkyPilot task. Raises UsageError for tunnels, and GPUs that it has no name for."""
    _refuse_tunnels(ranks)
    resources: dict[str, object] = {
        "memory": f"{-(-ranks.host_bytes // GIB)}+",
        "image_id": f"docker:{ranks.image}",
    }
    if ranks.n_gpus:
        resources["accelerators"] = f"{_sky_gpu(ranks.gpu_name)}:{ranks.n_gpus}"
    task: dict[str, object] = {"name": dns_name(ranks.name), "num_nodes": ranks.nodes, "resources": resources}
    if ranks.key_variable is not None and ranks.key_file is not None:
        raise UsageError(
            f"SkyPilot makes its machines, and no file {ranks.key_file} is on them",
            hint="leave --api-key-file and --host out: sky exec and ssh -L reach loopback",
        )
    body = _by_rank(ranks, _head_of(ranks), "$SKYPILOT_NODE_RANK")
    first = "set -euo pipefail\nulimit -c 0\nhead=\"${SKYPILOT_NODE_IPS%%$'\\n'*}\"\n"
    task["run"] = first + body
    reach = f"# sky launch -c CLUSTER FILE, then: ssh -L {ranks.port}:127.0.0.1:{ranks.port} CLUSTER\n"
    return reach + yaml_text(task)


def lws_manifest(ranks: Ranks) -> str:
    """Return a LeaderWorkerSet of one group, with a Service for its head.

    A pod is open to its cluster, so there is always a key, from a secret. Raises UsageError for ranks that
    trust whoever reaches them, and GPUs that a cluster has no name for.
    """
    _refuse_tunnels(ranks)
    name = dns_name(ranks.name)
    template: dict[str, object] = {
        "size": ranks.nodes,
        "restartPolicy": "RecreateGroupOnPodRestart",  # a rank alone answers nobody
        "leaderTemplate": _pod_template({"app": name, **_LEADER}, _pod(ranks, ranks.head, leads=True)),
        "workerTemplate": _pod_template({"app": name}, _pod(ranks, ranks.others or ranks.head, leads=False)),
    }
    # a variable is taken as it is, with the file's line end
    made = f"kubectl create secret generic {name} --from-file={KEY_FILE}=/dev/stdin"
    return f"# The key, once: head -n 1 FILE | tr -d '\\n' | {made}\n" + lws_of(name, template, ranks.port)


def _refuse_tunnels(ranks: Ranks) -> None:
    if ranks.tunnels:
        raise UsageError(
            "RPC servers have no password and listen on loopback, and containers have no ssh",
            hint="launcher export sbatch, where nodes reach each other by ssh, or --engine vllm",
        )


def lws_of(name: str, template: dict[str, object], port: int) -> str:
    """Return a LeaderWorkerSet of this group, and the Service of its leader."""
    manifest = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"replicas": 1, "leaderWorkerTemplate": template},
    }
    service = service_of(name, {"app": name, **_LEADER}, port)
    return yaml_text(manifest) + "---\n" + yaml_text(service)


def pod_template_of(name: str, pod: dict[str, object]) -> dict[str, object]:
    """Return the template of a group whose leader is alone."""
    return {"size": 1, "workerTemplate": _pod_template({"app": name, **_LEADER}, pod)}


def _pod_template(labels: dict[str, str], pod: dict[str, object]) -> dict[str, object]:
    return {"metadata": {"labels": labels}, "spec": pod}


def _pod(ranks: Ranks, argv: Sequence[str], *, leads: bool) -> dict[str, object]:
    # the controller adds both variables to every container
    filled = {HEAD: "$(LWS_LEADER_ADDRESS)", RANK: "$(LWS_WORKER_INDEX)"}
    words = [filled.get(word, for_kubernetes(word)) for word in argv]
    if leads:
        words[words.index("--host") + 1] = "0.0.0.0"  # noqa: S104  in the pod; it has a key
    name = dns_name(ranks.name)
    container: dict[str, object] = {
        "name": "rank",
        "image": ranks.image,
        "command": words,
        "env": [{"name": "HF_HOME", "value": _HF_HOME}, *_key_variable(ranks, name)],
        "volumeMounts": [
            {"name": "models", "mountPath": _HF_HOME},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  NCCL's, between the GPUs of a machine
        ],
        "resources": _resources(ranks),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if leads:
        health = {"httpGet": {"path": "/health", "port": ranks.port}}
        container |= {
            "ports": [{"containerPort": ranks.port}],
            "startupProbe": {**health, "periodSeconds": 10, "failureThreshold": 720},
            "readinessProbe": {**health, "periodSeconds": 10, "timeoutSeconds": 10},
        }
    return {
        "containers": [container],
        "volumes": [
            {"name": "models", "hostPath": {"path": ranks.models, "type": "Directory"}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }


def _key_variable(ranks: Ranks, name: str) -> list[object]:
    if ranks.key_variable is None:
        return []
    return [{"name": ranks.key_variable, "valueFrom": {"secretKeyRef": {"name": name, "key": KEY_FILE}}}]


def _resources(ranks: Ranks) -> dict[str, object]:
    if ranks.gpu_kind is not None and ranks.gpu_kind not in KUBERNETES_GPUS:
        raise UsageError(
            f"a cluster has no resource for {ranks.gpu_kind}", hint="a plan for NVIDIA's or AMD's GPUs"
        )
    gpus = {} if ranks.gpu_kind is None else {KUBERNETES_GPUS[ranks.gpu_kind]: ranks.n_gpus}
    return {"requests": {"memory": str(ranks.host_bytes)}, "limits": gpus}


def _head_of(ranks: Ranks) -> list[str]:
    """Return the lines that become the head: its key, the tunnels to the others, the server."""
    lines = []
    if ranks.key_file is not None and ranks.key_variable is not None:
        path = shlex.quote(ranks.key_file)
        lines += [f"{ranks.key_variable}=$(grep -m 1 '^[^#]' -- {path})", f"export {ranks.key_variable}"]
    if ranks.tunnels:
        lines.append(_NODES)
    for number, port in enumerate(ranks.tunnels, 1):
        lines.append(f'{_SSH} -L {port}:127.0.0.1:{ranks.tunnel_port} "${{nodes[{number}]}}" &')
    lines += [_STARTS.format(port=port) for port in ranks.tunnels]
    return [*lines, f"exec {_shell(ranks.head)}"]


def _by_rank(ranks: Ranks, head: list[str], rank: str) -> str:
    if ranks.nodes == 1:
        return "\n".join(head) + "\n"
    others = f"exec {_shell(ranks.others, rank)}"
    return "\n".join([f'if [ "{rank}" = 0 ]; then', *head, "else", others, "fi"]) + "\n"


def _shell(argv: Sequence[str], rank: str = "0") -> str:
    filled = {HEAD: '"$head"', RANK: f'"{rank}"'}
    return " ".join(filled.get(word) or shlex.quote(word) for word in argv)


def _sky_gpu(name: str) -> str:
    for pattern, sky in _SKY_GPUS:
        if re.search(pattern, name):
            return sky
    raise UsageError(
        f"SkyPilot has no name for {name!r}, as far as is known here", hint="launcher export sbatch or lws"
    )


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
