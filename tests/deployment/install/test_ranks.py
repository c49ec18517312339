"""Ranks for schedulers, held against what those take."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from launcher.deployment.install.ranks import (
    HEAD,
    RANK,
    Ranks,
    lws_manifest,
    sbatch_script,
    skypilot_task,
)
from launcher.errors import UsageError
from launcher.units import GIB

SCHEMAS = Path(__file__).parent / "schemas"
SERVE = ("vllm", "serve", "user/repo", "--master-addr", HEAD, "--node-rank")
VLLM = Ranks(
    name="kimi-k2.5",
    model_id="kimi\n#SBATCH --wrap=evil",
    nodes=2,
    head=(*SERVE, "0", "--host", "127.0.0.1", "--port", "8080", "--chat-template", "it's $(id)"),
    others=(*SERVE, RANK, "--headless"),
    port=8080,
    host_bytes=32 * GIB,
    gpu_kind="CUDA",
    gpu_name="NVIDIA H100 80GB HBM3",
    n_gpus=8,
    image="vllm/vllm-openai:v0.32.0",
    key_variable="VLLM_API_KEY",
)
SPLIT = replace(
    VLLM,
    nodes=3,
    head=("llama-server", "--rpc", "127.0.0.1:50052,127.0.0.1:50053", "--host", "127.0.0.1"),
    others=("ggml-rpc-server", "-H", "127.0.0.1", "-p", "50052", "-d", "CUDA0"),
    tunnels=(50052, 50053),
    tunnel_port=50052,
    key_variable=None,
)


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / name).read_text())


def test_a_leader_worker_set_is_one_and_its_pods_are_pods() -> None:
    manifest, service = yaml.safe_load_all(lws_manifest(VLLM))
    jsonschema.validate(manifest, schema("lws.json"))
    template = manifest["spec"]["leaderWorkerTemplate"]
    for pod in (template["leaderTemplate"], template["workerTemplate"]):
        labels = pod["metadata"]["labels"]
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "a"},
            "spec": {"selector": {"matchLabels": labels}, "template": pod},
        }
        kubernetes_validate.validate(deployment, "1.33", strict=True)
    kubernetes_validate.validate(service, "1.33", strict=True)
    leader, worker = (
        template[each]["spec"]["containers"][0] for each in ("leaderTemplate", "workerTemplate")
    )
    assert leader["command"][4] == worker["command"][4] == "$(LWS_LEADER_ADDRESS)"
    assert worker["command"][6] == "$(LWS_WORKER_INDEX)"
    assert leader["command"][leader["command"].index("--host") + 1] == "0.0.0.0"
    assert leader["command"][-1] == "it's $$(id)"  # a variable to Kubernetes, unless it is escaped
    for container in (leader, worker):
        assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
        key = next(each for each in container["env"] if each["name"] == "VLLM_API_KEY")
        assert key["valueFrom"]["secretKeyRef"] == {"name": "kimi-k2-5", "key": "api-key"}
    assert service["spec"]["selector"] == template["leaderTemplate"]["metadata"]["labels"]
    assert "role" not in template["workerTemplate"]["metadata"]["labels"]


def test_a_batch_script_runs_each_rank_on_its_node(tmp_path: Path) -> None:
    script = sbatch_script(replace(VLLM, key_variable=None))
    options = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    assert "#SBATCH --nodes=2" in options
    assert "#SBATCH --gpus-per-node=8" in options
    assert not any("evil" in option for option in options)
    ran = run_ranks(script, tmp_path, nodes=2)
    assert ran[0] == ["vllm", *SERVE[1:4], "node0", "--node-rank", "0", *VLLM.head[7:]]
    assert ran[1] == ["vllm", *SERVE[1:4], "node0", "--node-rank", "1", "--headless"]


def test_the_head_of_a_split_reaches_its_peers_by_ssh(tmp_path: Path) -> None:
    ran = run_ranks(sbatch_script(SPLIT), tmp_path, nodes=3)
    assert ran[0][:1] == ["llama-server"]
    assert ran[1] == ran[2] == list(SPLIT.others)
    tunnels = sorted((tmp_path / "ssh").read_text().splitlines())
    assert [line.rpartition("-L ")[2] for line in tunnels] == [
        "50052:127.0.0.1:50052 node1",
        "50053:127.0.0.1:50052 node2",
    ]
    assert all("ExitOnForwardFailure=yes" in line and "ServerAliveInterval=3" in line for line in tunnels)


def test_a_key_is_read_from_its_file_by_the_head_alone(tmp_path: Path) -> None:
    key = tmp_path / "a key"
    key.write_text("# mine\nsecret\n")
    script = sbatch_script(replace(VLLM, key_file=str(key)))
    assert "secret" not in script
    run_ranks(script, tmp_path, nodes=2)
    assert (tmp_path / "key.0").read_text() == "secret"
    assert (tmp_path / "key.1").read_text() == ""


def test_a_skypilot_task_is_one() -> None:
    task = yaml.safe_load(skypilot_task(replace(VLLM, key_variable=None)))
    jsonschema.validate(task, schema("skypilot.json"))
    assert task["resources"]["accelerators"] == "H100:8"
    assert task["num_nodes"] == 2
    env = {"PATH": "/usr/bin:/bin", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NODE_RANK": "1"}
    said = task["run"].replace("exec vllm", "echo vllm")
    done = subprocess.run(["bash"], input=said, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["vllm", *SERVE[1:4], "10.0.0.1", "--node-rank", "1", "--headless"]


def test_what_a_scheduler_cannot_do_is_refused() -> None:
    for write in (lws_manifest, skypilot_task):
        with pytest.raises(UsageError, match="containers have no ssh"):
            write(SPLIT)
    with pytest.raises(UsageError, match="no name for 'AMD Radeon"):
        skypilot_task(replace(VLLM, gpu_name="AMD Radeon RX 7900 XTX", key_variable=None))
    with pytest.raises(UsageError, match="no file /keys"):
        skypilot_task(replace(VLLM, key_file="/keys"))
    with pytest.raises(UsageError, match="no resource for Vulkan"):
        lws_manifest(replace(VLLM, gpu_kind="Vulkan"))


def run_ranks(script: str, folder: Path, nodes: int) -> list[list[str]]:
    """Run a batch script in bash with stand-ins for Slurm's programs; return what each rank became."""
    tools = folder / "bin"
    tools.mkdir()
    write = {
        "scontrol": f"for n in $(seq 0 {nodes - 1}); do echo node$n; done",
        "srun": f'shift 2; for n in $(seq 0 {nodes - 1}); do SLURM_PROCID=$n "$@"; done',
        "ssh": f'echo "$*" >> {folder}/ssh',
        "seq": 'if [ "$*" = 300 ]; then echo 1; else /usr/bin/seq "$@"; fi',
        "sleep": ":",
    }
    became = (
        f'printf "%s\\n" "${{0##*/}}" "$@" > {folder}/rank.$SLURM_PROCID; '
        f'printf %s "${{VLLM_API_KEY:-}}" > {folder}/key.$SLURM_PROCID'
    )
    write |= dict.fromkeys(("vllm", "llama-server", "ggml-rpc-server"), became)
    for name, text in write.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    done = subprocess.run(
        ["bash"],
        input=script,
        env={"PATH": f"{tools}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "node[0-9]"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(folder / f"rank.{number}").read_text().splitlines() for number in range(nodes)]
