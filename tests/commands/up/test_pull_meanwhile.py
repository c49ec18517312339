"""`up` without an engine: the model is found and pulled while the engine is built."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import huggingface_hub
import pytest

from launcher.commands import engine_build, plan, pull
from launcher.commands.here import Here, here_with
from launcher.commands.inspect import inspect
from launcher.commands.lock import write_lock
from launcher.commands.planned import PlanRequest
from launcher.commands.probe import probe
from launcher.commands.up.pull_meanwhile import pull_meanwhile
from launcher.commands.up.request import UpRequest
from launcher.commands.up.up import up
from launcher.errors import EngineFailed, Interrupted, TryAgain
from launcher.models.kept.list import list_stored, stores_here
from launcher.models.store import HubStore
from launcher.progress import Step
from launcher.system.settings import read_settings
from launcher.units import MIB
from tests.fakes.hub import FakeHub, Fault, Seen
from tests.make_gguf import make_gguf

REF = "user/tiny-GGUF:Q8_0"
REQUEST = UpRequest(plan=PlanRequest(ref=REF))
PATIENCE_S = 20.0


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    (path,) = make_gguf(tmp_path / "tiny-Q8_0.gguf", "llama", numbers={"n_block": 24}, hollow=True)
    with FakeHub() as running:
        running.publish("user/tiny-GGUF", {path.name: path})
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setenv("PATH", str(tmp_path))  # no llama-server
        monkeypatch.setattr(engine_build, "find_prebuilt", lambda *_: ())  # nor one that is built already
        yield running
    huggingface_hub.close_session()


class Build:
    """Stands for the build of an engine: ends, badly, when the model is here, or at once."""

    def __init__(self, *, waits: bool = True) -> None:
        self.began, self.arrived, self._waits = threading.Event(), threading.Event(), waits

    def watch(self, step: Step) -> None:
        if step.phase == "pull" and step.done == step.total and not step.file:
            self.arrived.set()

    def __call__(self, *_: object, **__: object) -> NoReturn:
        self.began.set()
        if self._waits and not self.arrived.wait(PATIENCE_S):
            raise EngineFailed("nothing was pulled meanwhile")
        raise EngineFailed("built enough")


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Build:
    instead = Build()
    monkeypatch.setattr(engine_build, "build", instead)
    return instead


@pytest.fixture
def locked(hub: FakeHub, tmp_path: Path) -> UpRequest:
    here = here_with()
    target = inspect(here, REQUEST.plan.ref)
    write_lock(plan.plan_on(here, REQUEST.plan, target, probe(here), None), tmp_path / "lock.json")
    return UpRequest(plan=PlanRequest(ref=""), locked=tmp_path / "lock.json")


def is_whole(tmp_path: Path) -> bool:
    stores = stores_here(tmp_path / "hf", tmp_path)
    kept = list_stored(stores, HubStore(folder=read_settings().cache_dir / "hub"))
    return any(one.is_whole for one in kept if one.name == REF)


def agree(_question: str) -> bool:
    return True


def test_headers_are_read_and_the_model_is_pulled_while_the_engine_is_built(
    hub: FakeHub, build: Build, tmp_path: Path
) -> None:
    early: list[Seen] = []

    def hold(seen: Seen) -> None:
        if seen.host == "storage" and not build.began.wait(PATIENCE_S):
            early.append(seen)

    hub.on_request = hold
    with pytest.raises(EngineFailed, match="built enough"):
        up(here_with(build.watch, confirm=agree), REQUEST)
    assert (early, is_whole(tmp_path)) == ([], True)
    assert len([seen for seen in hub.seen if "/revision/" in seen.path]) == 1


def test_so_it_is_for_a_locked_plan(hub: FakeHub, locked: UpRequest, build: Build, tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="built enough"):
        up(here_with(build.watch, confirm=agree), locked)
    assert is_whole(tmp_path)


def test_a_build_that_fails_ends_the_pull(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults.append(Fault(bytes_per_s=1 * MIB))
    began = threading.Event()

    def build(*_: object, **__: object) -> NoReturn:
        assert began.wait(PATIENCE_S)
        raise EngineFailed("the build failed")

    def watch(step: Step) -> None:
        if step.phase == "pull" and step.done:
            began.set()

    monkeypatch.setattr(engine_build, "build", build)
    with pytest.raises(EngineFailed, match="the build failed"):
        up(here_with(watch, confirm=agree), REQUEST)
    assert "pull" not in {thread.name for thread in threading.enumerate()}
    assert not is_whole(tmp_path)


def test_on_a_terminal_a_large_download_is_asked_about_before_the_build(
    hub: FakeHub, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "ASK_ABOVE_BYTES", 1000)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(Interrupted, match="nothing was downloaded"):
        up(here_with(confirm=lambda question: not question.startswith("Download")), REQUEST)
    assert not build.began.is_set()


def test_what_cannot_be_found_before_the_build_is_not_looked_for_amid_it(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its question would be asked among the bars of the build."""
    looked_for: list[str] = []

    def locate(_: Here) -> NoReturn:
        looked_for.append(threading.current_thread().name)
        raise TryAgain("the Hub does not answer")

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pull_meanwhile(here_with(confirm=agree), locate, lambda _: ("again",)):
        pass
    assert looked_for == ["MainThread"]


BUILT = """
import sys
from launcher.commands import engine_build
from launcher.cli.main import main
engine_build.find_prebuilt = lambda *_: ()
engine_build.build = lambda *_, **__: [print("{}", file=sys.stderr, flush=True)]
main()
"""
"""The command line, with a build that takes no time."""


def test_ctrl_c_after_the_build_leaves_a_pull_that_can_be_gone_on_with(hub: FakeHub, tmp_path: Path) -> None:
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "hf")}
    words = [sys.executable, "-c", BUILT, "up", REF, "-y", "--progress", "jsonl"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    hub.faults.append(Fault(stall_after=10 * MIB))
    with subprocess.Popen(words, env=env, text=True, start_new_session=True, **pipes) as up:
        assert up.stderr is not None
        steps = (json.loads(line) for line in up.stderr)
        assert any(step.get("phase") == "pull" and step["done"] > 8 * MIB for step in steps)
        up.send_signal(signal.SIGINT)
        said = up.stderr.read().splitlines()
        assert up.wait(PATIENCE_S) == Interrupted.exit_code
        with pytest.raises(ProcessLookupError):
            os.killpg(up.pid, 0)
    assert said[-2:] == [
        "error: the download was stopped; what has arrived is kept",
        f"hint: launcher pull {REF}",
    ]
    assert [path.suffix for path in sorted((tmp_path / "hf").rglob("*.part*"))] == [".part", ".journal"]
    assert not is_whole(tmp_path)
    hub.faults.clear()
    hub.seen.clear()
    again = [sys.executable, "-m", *shlex.split(said[-1].removeprefix("hint: "))]
    subprocess.run(again, env=env, check=True, capture_output=True, timeout=60)
    assert is_whole(tmp_path)
    asked = [
        int((seen.range or "").removeprefix("bytes=").partition("-")[0]) for seen in hub.asked("storage")
    ]
    assert min(asked) == 8 * MIB
