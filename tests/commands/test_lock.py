"""A plan in a file, and what is refused when it is taken out again."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.commands.here import here_with
from launcher.commands.inspect import inspect
from launcher.commands.lock import read_lock, write_lock
from launcher.commands.lock_match import check_devices, check_engine, locate
from launcher.commands.plan import plan_on
from launcher.commands.planned import Planned, PlanRequest
from launcher.commands.probe import MachineChoice
from launcher.engine.find import Engine, EngineSource
from launcher.engine.flags.argv import Serving
from launcher.engine.flags.help_text import Capabilities, Option, Version
from launcher.engine.flags.pinned_flags import PINNED_ARITIES
from launcher.engine.pinned import LLAMA_CPP
from launcher.errors import NotFound, UsageError
from launcher.machine.to_toml import format_machine
from launcher.models.catalogue import sources_of
from launcher.plan.amounts import HOST, RAM
from launcher.plan.workload import Workload
from launcher.progress import Step
from launcher.system.settings import Settings, read_settings
from tests.make_gguf import make_gguf
from tests.plan.shapes import cards, machine


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LAUNCHER_ENGINE", raising=False)
    return read_settings()


@pytest.fixture
def planned(tmp_path: Path, settings: Settings) -> Planned:
    make_gguf(tmp_path / "m.gguf", "qwen3moe", hollow=True, splits=2)
    request = PlanRequest(
        ref=str(tmp_path / "m-00001-of-00002.gguf"),
        workload=Workload(ctx_size=4096),
        machine=MachineChoice(),
    )

    def quiet(step: Step) -> None:
        assert step

    here = here_with(quiet)
    return plan_on(here, request, inspect(here, request.ref), machine(*cards(250)), None)


VERSION = Version(text="1", build=None, commit=LLAMA_CPP.commit, compiler=None)
KNOWN = Capabilities(
    sha256="a" * 64,
    version=VERSION,
    options=tuple(
        Option(spellings=(flag,), hint="N" if arity else None, values=(), default=None, env=None, help="")
        for flag, arity in PINNED_ARITIES.items()
    ),
)
ENGINE = Engine(path=Path("/opt/llama-server"), folder=Path("/opt"), source=EngineSource.OPTION)
SERVING = Serving(
    host="127.0.0.1", port=9, model_id="other", model_path="elsewhere.gguf", api_key_file="keys"
)


def test_a_lock_is_the_same_command_at_another_address(planned: Planned, tmp_path: Path) -> None:
    write_lock(planned, tmp_path / "lock.json")
    lock = read_lock(tmp_path / "lock.json")
    assert lock.argv == planned.argv
    compiled = lock.compile(ENGINE, KNOWN, lock.flags, replace(SERVING, api_key_file=None))
    changed = {index for index, (a, b) in enumerate(zip(lock.argv, compiled, strict=True)) if a != b}
    assert {lock.argv[index - 1] for index in changed - {0}} == {"-m", "-a", "--port"}
    assert compiled[0] == "/opt/llama-server"
    with_keys = lock.compile(ENGINE, KNOWN, lock.flags, SERVING)
    assert ("--api-key-file", "keys") in itertools.pairwise(with_keys)
    assert lock.document["schema"] == 1


def test_a_lock_has_the_plan_and_what_it_takes(planned: Planned, tmp_path: Path) -> None:
    write_lock(planned, tmp_path / "lock.json")
    lock = read_lock(tmp_path / "lock.json")
    assert planned.plan is not None
    assert replace(lock.plan, forecast=None) == replace(planned.plan, forecast=None)
    assert lock.rows == {
        RAM if row.where == HOST else row.where: row.used_bytes for row in planned.plan.ledger
    }
    assert lock.unlocked == f"launcher up {lock.ref} -c 4096"


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("shards", [], "shards is empty"),
        ("shards", [{"name": 1}], r"shards\[0\].name is not a text"),
        ("beside", [{}], r"beside\[0\].shards is not a list of objects"),
        ("engine", None, "engine is not an object"),
        ("argv", "llama-server", "argv is not a list of texts"),
        ("plan", {"schema": 2}, "the plan cannot be read: schema is 2; this launcher reads 1"),
        ("format", "gguf-launcher lock 9", "format is not 'gguf-launcher lock 2'"),
    ],
)
def test_a_damaged_lock_is_refused_by_its_field(
    planned: Planned, tmp_path: Path, key: str, value: object, problem: str
) -> None:
    path = tmp_path / "lock.json"
    write_lock(planned, path)
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(UsageError, match=f"is no lock of a plan: {problem}"):
        read_lock(path)


def test_every_lock_that_was_cut_is_refused(planned: Planned, tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    write_lock(planned, path)
    text = path.read_text()
    for end in range(0, len(text), 101):
        path.write_text(text[:end])
        with pytest.raises(UsageError, match="is no lock of a plan"):
            read_lock(path)


def test_locked_files_are_found_again_or_refused(
    planned: Planned, tmp_path: Path, settings: Settings
) -> None:
    write_lock(planned, tmp_path / "lock.json")
    lock = read_lock(tmp_path / "lock.json")
    found = locate(lock, sources_of(settings))
    assert [shard.size_bytes for shard in found.model.shards] == [size for _, size, _ in lock.shards]
    name, size, digest = lock.shards[0]
    with pytest.raises(UsageError, match="is not the file that"):
        locate(replace(lock, shards=((name, size + 1, digest), *lock.shards[1:])), sources_of(settings))
    with pytest.raises(UsageError, match="has 2 files, and"):
        locate(replace(lock, shards=lock.shards[:1]), sources_of(settings))


def test_another_engine_is_refused_by_its_digest(planned: Planned, tmp_path: Path) -> None:
    write_lock(planned, tmp_path / "lock.json")
    lock = replace(read_lock(tmp_path / "lock.json"), engine_sha256="a" * 64, engine_commit="0c1e570")
    assert check_engine(lock, KNOWN, chosen=False) is None
    rebuilt = replace(KNOWN, sha256="b" * 64, version=replace(VERSION, commit="0c1e570"))
    assert "another build of the same llama.cpp" in (check_engine(lock, rebuilt, chosen=False) or "")
    other = replace(rebuilt, version=replace(VERSION, commit="fffffff"))
    with pytest.raises(UsageError, match="commit 0c1e570, digest aaaaaaaaaaaa"):
        check_engine(lock, other, chosen=False)
    assert "--engine decides" in (check_engine(lock, other, chosen=True) or "")


def test_a_lock_works_where_its_paths_do_not_exist(
    planned: Planned, tmp_path: Path, settings: Settings
) -> None:
    write_lock(planned, tmp_path / "lock.json")
    there = tmp_path / "another machine"
    there.mkdir()
    for file in [tmp_path / "lock.json", *tmp_path.glob("*.gguf")]:
        file.rename(there / file.name)
    lock = read_lock(there / "lock.json")
    assert locate(lock, sources_of(settings)).model.shards[0].name == "m-00001-of-00002.gguf"
    for file in there.glob("*.gguf"):
        file.unlink()
    with pytest.raises(NotFound, match=r"which is not here, nor is m-00001-of-00002\.gguf beside it"):
        locate(lock, sources_of(settings))


def test_devices_of_another_machine_are_named(planned: Planned, tmp_path: Path) -> None:
    write_lock(planned, tmp_path / "lock.json")
    lock = read_lock(tmp_path / "lock.json")
    check_devices(lock, planned.machine)
    with pytest.raises(UsageError, match="on CUDA0, and this machine has none"):
        check_devices(lock, machine())


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"format": "other"}), "\x00", "[" * 100_000])
def test_any_other_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(UsageError, match="is no lock of a plan"):
        read_lock(tmp_path / "x")
    with pytest.raises(UsageError, match="cannot be read"):
        read_lock(tmp_path / "missing")


def test_machines_with_a_bandwidth_are_saved_with_it() -> None:
    assert "bandwidth_gb_s = 89.6" in format_machine(replace(machine(), ram_bandwidth=89_600_000_000))
