"""`launcher export` as it is typed: a deployment's files as they lie, and a plan for a machine that is not here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from launcher.commands.export.running import files_of
from tests.cli.shell import launcher
from tests.deployment.recorded import a_deployment
from tests.make_gguf import make_gguf


def export(*words: str) -> subprocess.CompletedProcess[str]:
    return launcher("export", *words, timeout_s=120)


def test_links_of_the_hub_s_cache_are_followed_for_every_shard(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots/abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number in (1, 2):
        (blobs / f"b{number}").touch()
        (snapshot / f"m-0000{number}-of-00002.gguf").symlink_to(f"../../blobs/b{number}")
    lora = tmp_path / "l.gguf"
    lora.touch()
    first = str(snapshot / "m-00001-of-00002.gguf")
    argv = ("llama-server", "-m", first, "--lora-scaled", f"{lora}:0.5")
    files, inside = files_of(a_deployment(model_path=first, argv=argv))
    assert files == (
        (str(blobs / "b1"), "/models/0/m-00001-of-00002.gguf"),
        (str(blobs / "b2"), "/models/0/m-00002-of-00002.gguf"),
        (str(lora), "/models/1/l.gguf"),
    )
    assert inside == ((first, "/models/0/m-00001-of-00002.gguf"), (str(lora), "/models/1/l.gguf"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_gguf(tmp_path / "m.gguf", "qwen3moe", hollow=True, splits=2)[0]


@pytest.mark.parametrize("kind", ["systemd", "compose", "kubernetes", "shell"])
def test_a_plan_for_a_machine_that_is_not_here(model: Path, kind: str) -> None:
    done = export(
        kind, str(model), "--gpu", "3090:2", "--ram", "64G", "-c", "4k", "--models", "/data", "--json"
    )
    assert done.returncode == 0, done.stderr
    text = json.loads(done.stdout)["text"]
    assert "CUDA0" in text
    assert "4096" in text
    place = (
        "/models/m-00001-of-00002.gguf"
        if kind in {"compose", "kubernetes"}
        else "/data/m-00001-of-00002.gguf"
    )
    assert place in text
    if kind == "compose":
        assert "/data/m-00002-of-00002.gguf:/models/m-00002-of-00002.gguf:ro" in text
        assert 'driver: "nvidia"' in text
    if kind == "kubernetes":
        assert "nvidia.com/gpu" in text
    if kind in {"compose", "kubernetes"}:
        assert "ghcr.io/ggml-org/llama.cpp:server-cuda-b" in text
        assert "/keys/api-key" in text


def test_an_open_server_elsewhere_needs_a_key(model: Path) -> None:
    machine = (str(model), "--gpu", "3090", "--ram", "64G", "-c", "4k", "--host", "0.0.0.0")
    done = export("systemd", *machine)
    assert done.returncode == 2
    assert "no API key is set" in done.stderr
    done = export("systemd", *machine, "--api-key-file", "/etc/llm.key")
    assert done.returncode == 0, done.stderr
    assert "ExecStartPre=/bin/sh -c \"grep -q '^[^#]'" in done.stdout


def test_a_deployment_takes_no_options_of_a_plan() -> None:
    done = export("compose", "m", "-c", "4k")
    assert done.returncode == 2
    assert "exported as it was planned" in done.stderr


def test_what_does_not_fit_there_is_said(tmp_path: Path) -> None:
    (path,) = make_gguf(tmp_path / "big.gguf", "llama", preset="llama-3.3-70b", hollow=True)
    done = export("compose", str(path), "--gpu", "3060", "--ram", "16G")
    assert (done.returncode, "does not fit" in done.stderr) == (3, True), done.stderr


MACHINE = ("--gpu", "5090:4", "--ram", "768G", "--offline")


def test_names_that_only_the_repo_knows_are_not_made_up() -> None:
    done = export("compose", "qwen3-235b", *MACHINE)
    assert done.returncode == 6, done.stdout
    assert "how those of unsloth/" in done.stderr
    assert "name a .gguf that is here" in done.stderr


def test_a_name_that_the_profile_has_is_used_without_its_repo() -> None:
    done = export("compose", "deepseek-r1-32b:Q4_K_M", *MACHINE)
    assert done.returncode == 0, done.stderr
    name = "DeepSeek-R1-Distill-Qwen-32B-Q4_K_M.gguf"
    assert f"/srv/models/{name}:/models/{name}:ro" in done.stdout
