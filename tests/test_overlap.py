"""`up` without an engine: the model is pulled while the engine is built."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from launcher import pulling
from launcher.errors import Interrupted
from launcher.hub.shelf import list_kept, stores_here
from launcher.hub.store import HubStore
from launcher.planning import PlanRequest
from launcher.progress import Step
from launcher.settings import read_settings
from tests.fakes.hub import FakeHub, Fault
from tests.make_gguf import make_gguf

REF = "user/tiny-GGUF:Q8_0"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    (path,) = make_gguf(tmp_path / "tiny-Q8_0.gguf", "llama")
    with FakeHub() as running:
        running.publish("user/tiny-GGUF", {path.name: path})
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setenv("PATH", str(tmp_path))  # no llama-server
        yield running
    huggingface_hub.close_session()


def is_whole(tmp_path: Path) -> bool:
    stores = stores_here(tmp_path / "hf", tmp_path)
    kept = list_kept(stores, HubStore(folder=read_settings().cache_dir / "hub"))
    return any(one.is_whole for one in kept if one.name == REF)


def test_what_is_planned_without_an_engine_is_pulled_meanwhile(hub: FakeHub, tmp_path: Path) -> None:
    arrived = threading.Event()

    def watch(step: Step) -> None:
        if step.phase == "pull" and step.done == step.total and not step.part:
            arrived.set()

    request = PlanRequest(ref=REF)
    with pulling.pulling_meanwhile(request, read_settings(), lambda _: True, watch):
        assert arrived.wait(60)
    assert is_whole(tmp_path)


def test_a_build_that_fails_ends_the_pull(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults.append(Fault(bytes_per_s=100_000))
    began = threading.Event()
    request = PlanRequest(ref=REF)
    meanwhile = pulling.pulling_meanwhile(request, read_settings(), lambda _: True, lambda _: began.set())

    def build() -> None:
        with meanwhile:
            assert began.wait(60)
            raise Interrupted("the build failed")

    with pytest.raises(Interrupted, match="the build failed"):
        build()
    assert not is_whole(tmp_path)
