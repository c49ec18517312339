"""Ranks of vLLM, and of llama.cpp's splits, as `export lws | sbatch | skypilot` writes them."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from launcher.commands.export.planned import Elsewhere, export_plan, export_split
from launcher.commands.export.vllm import export_vllm
from launcher.commands.here import Here, here_with
from launcher.commands.planned import PlanRequest
from launcher.commands.probe import MachineChoice
from launcher.commands.vllm.plan import VllmPlanned, plan_for_vllm
from launcher.deployment.install.export import Format
from launcher.errors import DoesNotFit, UsageError
from launcher.machine.fleet import fleet_of_refs
from launcher.machine.from_words import Words, adhoc_machine
from launcher.plan.modes import CacheType
from launcher.plan.workload import Limits, Workload
from tests.make_gguf import make_gguf

PLACE = Elsewhere()
RANKS = (Format.LWS, Format.SBATCH, Format.SKYPILOT)
BOX = """
[ram]
total = "1800 MiB"
available = "1800 MiB"

[[device]]
backend = "cuda"
name = "NVIDIA H100 80GB HBM3"
total = "{card}"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    return here_with(offline=True)


def kimi_on(here: Here, gpus: str, machines: int) -> VllmPlanned:
    machine = adhoc_machine(Words(gpus=(gpus,), ram_bytes=1 << 40))
    return plan_for_vllm(here, "kimi-k2.5", Workload(), Limits(), (), [machine] * machines)


@pytest.mark.parametrize("kind", RANKS)
def test_ranks_of_vllm_are_written_for_each_scheduler(here: Here, kind: Format) -> None:
    text = export_vllm(kimi_on(here, "h100:8", 2), PLACE, kind)
    assert text.count("moonshotai/Kimi-K2.5") == 2
    assert text.count("--headless") == 1
    assert ("0.0.0.0" in text) == (kind is Format.LWS)
    assert ("VLLM_API_KEY" in text) == (kind is Format.LWS)


def test_ranks_that_do_not_surely_fit_or_would_be_open_are_refused(here: Here) -> None:
    with pytest.raises(DoesNotFit, match="lacks"):
        export_vllm(kimi_on(here, "h200:4", 1), PLACE, Format.SBATCH)
    with pytest.raises(UsageError, match="no API key"):
        export_vllm(kimi_on(here, "h200:8", 1), Elsewhere(host="10.0.0.1"), Format.SBATCH)
    with pytest.raises(UsageError, match="export compose is for llama-server"):
        export_vllm(kimi_on(here, "h200:8", 1), PLACE, Format.COMPOSE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf(tmp_path_factory.mktemp("m") / "qwen3moe.gguf", "qwen3moe", hollow=True)[0]


def machines(folder: Path, count: int, card: str | None = None) -> list[str]:
    file = folder / "box.toml"
    file.write_text(BOX.format(card=card) if card else BOX.partition("[[device]]")[0])
    return [str(file)] * count


def request(model: Path, machine: str | None = None) -> PlanRequest:
    choice = MachineChoice(name=machine)
    return PlanRequest(ref=str(model), workload=Workload(ctx_size=4096), machine=choice)


@pytest.mark.parametrize("kind", RANKS)
def test_one_machine_is_one_rank(here: Here, model: Path, tmp_path: Path, kind: Format) -> None:
    [machine] = machines(tmp_path, 1, "20 GiB")
    text = export_plan(here, request(model, machine), PLACE, kind)
    if kind is Format.SBATCH:
        assert "--nodes=1" in text
        assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
        assert "--host 127.0.0.1" in text
        return
    first = next(yaml.safe_load_all(text))
    if kind is Format.LWS:
        assert first["spec"]["leaderWorkerTemplate"]["size"] == 1
        [container] = first["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"]
        assert "--api-key-file" in container["args"]
    else:
        assert first["resources"]["accelerators"] == "H100:1"
        assert "--host 127.0.0.1" in first["run"]


def test_a_split_is_a_batch_of_peers_on_loopback_and_a_head(here: Here, model: Path, tmp_path: Path) -> None:
    f16 = {"cache_type_k": CacheType.F16, "cache_type_v": CacheType.F16}
    workload = Workload(ctx_size=32768, n_parallel=4, cache_ram_bytes=0, ubatch_size=512, **f16)
    wanted = replace(request(model), workload=workload)
    same = fleet_of_refs(machines(tmp_path, 4))
    text = export_split(here, wanted, same, PLACE, Format.SBATCH)
    peers = int(text.partition("--nodes=")[2].split()[0]) - 1
    assert peers >= 1
    assert text.count("-o ExitOnForwardFailure=yes") == peers
    assert "exec ggml-rpc-server -H 127.0.0.1 -p 50052 -d CPU" in text
    assert text.index("--rpc") < text.index("-dev ")
    assert "/srv/models/qwen3moe.gguf" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    with pytest.raises(UsageError, match="containers have no ssh"):
        export_split(here, wanted, same, PLACE, Format.LWS)
    with pytest.raises(UsageError, match="export compose is for one machine"):
        export_split(here, wanted, same, PLACE, Format.COMPOSE)
    with pytest.raises(UsageError, match="one machine holds the model"):
        export_split(
            here, request(model), fleet_of_refs(machines(tmp_path, 2, "20 GiB")), PLACE, Format.SBATCH
        )
