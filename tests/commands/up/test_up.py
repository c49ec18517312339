"""What `up` asks of others on its way: the Hub, this machine, and nothing of the process's own environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import huggingface_hub
import pytest

from launcher.commands import probe
from launcher.commands.here import here_with
from launcher.commands.plan import plan
from launcher.commands.planned import PlanRequest
from launcher.commands.pull import PullRequest, pull
from launcher.commands.up import start
from launcher.commands.up.request import UpRequest
from launcher.commands.up.up import up
from launcher.deployment.deploy import Request
from launcher.engine.find import Engine
from launcher.errors import EngineFailed
from launcher.machine.probe.probe import Hardware, read_hardware
from launcher.plan.workload import Workload
from tests.fakes.hub import FakeHub
from tests.make_gguf import make_gguf

REPO = "user/llama-GGUF"
PROFILE = """
schema = 1
title = "Mine"
description = "A profile of the test."
license = "MIT"
homepage = "https://example.org/mine"

[context]
max = 512
default = 512
source = "the test"

[[quants]]
name = "Q8_0"
repo = "{repo}"
label = "Q8_0"
size_bytes = {size}
size_basis = "published"
size_source = "the test"
quality = "none"
quality_source = "the test"

[[modes]]
name = "chat"
source = "the test"
[modes.sampling]
temperature = 0.2
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "llama-Q8_0.gguf"
    make_gguf(path, "qwen3moe")
    return path


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as running:
        running.publish(REPO, {model.name: model})
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        yield running
    huggingface_hub.close_session()


@pytest.fixture
def request_up(engine: Engine) -> UpRequest:
    return UpRequest(
        plan=PlanRequest(ref=f"{REPO}:Q8_0", workload=Workload(ctx_size=512), engine=engine.path),
        env=(("CUDA_VISIBLE_DEVICES", "7"), ("ONLY_THIS_SERVER", "1")),
    )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What would be started; nothing is."""
    requests: list[Request] = []

    def refuse(_folder: Path, request: Request, **_: object) -> NoReturn:
        requests.append(request)
        raise EngineFailed("enough")

    monkeypatch.setattr(start, "bring_up", refuse)
    return requests


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str]]:
    """The environments in which this machine was looked at."""
    environments: list[Mapping[str, str]] = []

    def look(store: Path, env: Mapping[str, str], *more: Any) -> Hardware:
        environments.append(env)
        return read_hardware(store, env, *more)

    monkeypatch.setattr(probe, "read_hardware", look)
    return environments


def revisions(hub: FakeHub) -> list[str]:
    return [seen.path for seen in hub.seen if "/revision/" in seen.path or "/tree/" in seen.path]


def test_a_ref_is_resolved_once(hub: FakeHub, request_up: UpRequest, started: list[Request]) -> None:
    with pytest.raises(EngineFailed, match="enough"):
        up(here_with(confirm=lambda _: True), request_up)
    assert len(started) == 1
    assert len([path for path in revisions(hub) if "/revision/" in path]) == 1
    assert len([path for path in revisions(hub) if "/tree/" in path]) <= 1


def test_so_it_is_by_a_profile_s_name(
    hub: FakeHub, model: Path, request_up: UpRequest, started: list[Request]
) -> None:
    """Its quants are listed when they are opened: once for the plan, not again for the files."""
    here = here_with(confirm=lambda _: True)
    folder = here.settings.own_profiles_dir / "models"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text(PROFILE.format(repo=REPO, size=model.stat().st_size), encoding="utf-8")
    request = replace(request_up, plan=replace(request_up.plan, ref="mine"))
    with pytest.raises(EngineFailed, match="enough"):
        up(here_with(confirm=lambda _: True), request)
    assert len([path for path in revisions(hub) if "/revision/" in path]) == 1


def test_a_pull_resolves_it_once_too(hub: FakeHub) -> None:
    [path] = pull(here_with(), PullRequest(ref=f"{REPO}:Q8_0"))
    assert path.name == "llama-Q8_0.gguf"
    assert len([path for path in revisions(hub) if "/revision/" in path]) == 1


def test_this_machine_is_not_looked_at_again_and_again(
    hub: FakeHub, request_up: UpRequest, started: list[Request], looks: list[Mapping[str, str]]
) -> None:
    plan(here_with(), replace(request_up.plan, engine=None))
    assert len(looks) == 1
    looks.clear()
    with pytest.raises(EngineFailed, match="enough"):
        up(here_with(confirm=lambda _: True), request_up)
    assert len(looks) == 2  # for a GPU that the engine does not list, and for what is free while it plans


def test_the_server_s_environment_is_a_value(
    hub: FakeHub, request_up: UpRequest, started: list[Request], looks: list[Mapping[str, str]]
) -> None:
    """A second model in the same process does not inherit the first one's `-e`."""
    before = dict(os.environ)
    with pytest.raises(EngineFailed, match="enough"):
        up(here_with(env=request_up.env, confirm=lambda _: True), request_up)
    second = replace(request_up, env=(), name="second")
    with pytest.raises(EngineFailed, match="enough"):
        up(here_with(confirm=lambda _: True), second)
    assert dict(os.environ) == before
    assert [request.env.get("ONLY_THIS_SERVER") for request in started] == ["1", None]
    assert [env.get("CUDA_VISIBLE_DEVICES") for env in looks] == ["7", "7", None, None]


def test_the_command_line_is_imported_without_the_hub_s_client() -> None:
    code = "import sys, launcher.cli.main; print([m for m in sys.modules if m.split('.')[0] in BAD])"
    bad = "BAD = {'huggingface_hub', 'httpx', 'httpx2'}; "
    done = subprocess.run([sys.executable, "-c", bad + code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
