"""A lock is handed around: it says what is computed, never which program runs, who may ask it, or what it may touch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from launcher.commands.companions import RemoteCompanion, with_files
from launcher.commands.here import here_with
from launcher.commands.inspect import inspect
from launcher.commands.lock import read_lock, write_lock
from launcher.commands.plan import plan_on
from launcher.commands.planned import PlanRequest
from launcher.commands.probe import probe
from launcher.commands.up import start
from launcher.commands.up.request import UpRequest
from launcher.commands.up.up import up
from launcher.deployment.deploy import Request
from launcher.engine.find import Engine
from launcher.engine.pinned import LLAMA_CPP
from launcher.errors import EngineFailed, NotFound, UsageError
from launcher.plan.workload import Workload
from tests.commands.test_lock import ENGINE, KNOWN, SERVING
from tests.make_gguf import make_gguf
from tests.plan.shapes import machine

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The command lines that would be started; nothing is."""
    lines: list[tuple[str, ...]] = []

    def refuse(_folder: Path, request: Request, **_: object) -> NoReturn:
        lines.append(tuple(request.argv_for(8080)))
        raise EngineFailed("enough")

    monkeypatch.setattr(start, "bring_up", refuse)
    return lines


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A lock of a tiny model, planned by estimate."""
    folder = tmp_path_factory.mktemp("lock")
    make_gguf(folder / "m.gguf", "qwen3moe")
    here = here_with()
    request = PlanRequest(ref=str(folder / "m.gguf"), workload=Workload(ctx_size=512))
    write_lock(plan_on(here, request, inspect(here, request.ref), machine(), None), folder / "lock.json")
    return (folder / "lock.json").read_text()


@pytest.fixture
def lock(written: str, tmp_path: Path) -> Path:
    (tmp_path / "lock.json").write_text(written)
    return tmp_path / "lock.json"


def compiled(lock: Path) -> tuple[str, ...]:
    read = read_lock(lock)
    return read.compile(ENGINE, KNOWN, read.flags, SERVING)


def bring_up(lock: Path, engine: Engine) -> None:
    up(
        here_with(confirm=lambda _: True),
        UpRequest(plan=PlanRequest(ref="", engine=engine.path), locked=lock),
    )


def changed(lock: Path, change: Change) -> None:
    document = json.loads(lock.read_text())
    change(document)
    lock.write_text(json.dumps(document))


@pytest.mark.engine
def test_the_engine_is_this_machine_s(lock: Path, engine: Engine, started: list[tuple[str, ...]]) -> None:
    def name_another(document: dict[str, Any]) -> None:
        at = document["argv"].index("-m") - 1
        document["argv"][at] = "/bin/sh"

    changed(lock, name_another)
    with pytest.raises(EngineFailed, match="enough"):
        bring_up(lock, engine)
    assert [line[0] for line in started] == [str(engine.path)]


@pytest.mark.parametrize(
    "change",
    [
        lambda lock: lock.update(argv=["/bin/sh", "-c", "id"]),
        lambda lock: lock.update(argv=[]),
        lambda lock: lock["argv"].extend(["--tools", "all"]),
        lambda lock: lock["argv"].extend(["--log-file", "/tmp/x"]),
        lambda lock: lock["argv"].extend(["--host", "0.0.0.0"]),
        lambda lock: lock["argv"].insert(0, "/usr/bin/env"),
        lambda lock: lock["argv"].__setitem__(lock["argv"].index("-c") + 1, "99999"),
    ],
)
def test_a_line_that_is_not_the_plan_s_is_refused(lock: Path, change: Change) -> None:
    changed(lock, lambda document: document["engine"].update(commit=LLAMA_CPP.commit))
    assert compiled(lock)[0] == str(ENGINE.path)
    changed(lock, change)
    with pytest.raises(UsageError, match="that its plan and flags give"):
        compiled(lock)


@pytest.mark.parametrize("key", ["flags", "profile_flags"])
@pytest.mark.parametrize(
    "flags",
    [
        ["--tools", "all"],
        ["--tools=all"],
        ["--agent"],
        ["--log-file", "/tmp/x"],
        ["--host", "0.0.0.0"],
        ["--api_key", "x"],
        ["--media-path", "/"],
        ["--video-ffmpeg-dir", "/tmp"],
        ["--mcp-servers-json", "{}"],
        ["--flag-of-a-newer-engine"],
        ["--rpc", "10.0.0.1:50052"],
    ],
)
def test_flags_with_powers_count_only_when_typed(lock: Path, key: str, flags: list[str]) -> None:
    changed(lock, lambda document: document.update({key: flags}))
    with pytest.raises(UsageError, match=r"counts only when you type it") as caught:
        compiled(lock)
    assert repr(flags[0].partition("=")[0].replace("_", "-")) in caught.value.message


@pytest.mark.parametrize(
    "flags",
    [
        ["-m", "/other.gguf"],
        ["-hf", "user/repo"],
        ["-ot", ".*=CPU"],
        ["-c", "9"],
        ["-dev", "CUDA7"],
        ["--log-disable"],
        ["--cache-list"],
        ["--fim-qwen-7b-default"],
        ["x"],
    ],
)
def test_a_profile_s_flags_pass_the_gate_of_typed_ones(lock: Path, flags: list[str]) -> None:
    changed(lock, lambda document: document.update(profile_flags=flags))
    with pytest.raises(UsageError):
        compiled(lock)


@pytest.mark.parametrize("key", ["flags", "profile_flags"])
@pytest.mark.parametrize(
    "flags", [["--mmproj-url", "http://x/y.gguf"], ["-mmu", "http://x"], ["-hfd", "u/r"]]
)
def test_llama_server_downloads_nothing_that_is_not_locked(lock: Path, key: str, flags: list[str]) -> None:
    changed(lock, lambda document: document.update({key: flags}))
    with pytest.raises(UsageError, match="has llama-server download a file that it does not lock"):
        compiled(lock)


def test_a_companion_brings_no_flags_either(lock: Path) -> None:
    changed(lock, lambda document: document.update(flags=["-hfd", "user/repo"]))
    read = read_lock(lock)
    remote = RemoteCompanion(
        what="draft model", ref="user/repo", flag="-md", also=("--tools", "all"), file=NotFound("no")
    )
    flags = with_files(read.flags, [remote], [lock])
    with pytest.raises(UsageError, match=r"counts only when you type it"):
        read.compile(ENGINE, KNOWN, flags, SERVING)


@pytest.mark.parametrize("flag", ["--log-file", "--path", "", "-hfd"])
def test_a_companion_goes_by_its_own_flags_only(lock: Path, flag: str) -> None:
    shards = json.loads(lock.read_text())["shards"]
    companion = {"model_id": "d", "shards": shards, "what": "draft model", "flag": flag, "also": []}
    changed(lock, lambda document: document.update(beside=[companion]))
    with pytest.raises(UsageError, match=r"beside\[0\].flag is neither -md nor -mm"):
        read_lock(lock)


def test_a_pipe_is_no_lock_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock.json")
    with pytest.raises(UsageError, match=r"lock\.json cannot be read: it is no regular file"):
        read_lock(tmp_path / "lock.json")


def test_a_profile_s_flags_pass_the_same_gate(tmp_path: Path) -> None:
    here = here_with(offline=True)
    folder = here.settings.own_profiles_dir / "models"
    folder.mkdir(parents=True)
    shipped = (Path(__file__).parents[2] / "profiles/models/kimi-k2.5.toml").read_text(encoding="utf-8")
    text = shipped.replace("title = ", 'flags = ["--tools", "all"]\ntitle = ', 1)
    (folder / "kimi-k2.5.toml").write_text(text, encoding="utf-8")
    here = here_with(offline=True)
    request = PlanRequest(ref="kimi-k2.5", workload=Workload(ctx_size=4096))
    with pytest.raises(UsageError, match=r"the profile kimi-k2\.5 has the flag '--tools'"):
        plan_on(here, request, inspect(here, request.ref), probe(here), None)
