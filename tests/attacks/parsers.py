"""Every parser of text that others may have written: a good text of its format, and how it is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.commands.here import here_with
from launcher.commands.inspect import inspect
from launcher.commands.lock import read_lock, write_lock
from launcher.commands.plan import plan_on
from launcher.commands.planned import PlanRequest
from launcher.deployment import history
from launcher.deployment.claims import Claim, read_claims, write_claim
from launcher.deployment.history import HistoryEntry, Identity
from launcher.deployment.identity import identify
from launcher.deployment.record import record_json
from launcher.deployment.records import read_all
from launcher.engine.flags.help_text import parse_help, parse_version
from launcher.engine.log.diagnose import diagnose
from launcher.engine.log.load_log import usage_by_row
from launcher.errors import LauncherError
from launcher.machine.from_toml import parse_machine
from launcher.machine.probe.device_list import parse_device_list
from launcher.models.hub.api_json import parse_commit, parse_page
from launcher.models.local import open_path
from launcher.models.profiles.from_toml import find_profiles
from launcher.models.saved import save_headers
from launcher.models.transfer.journal import arrived_bytes, journal_path
from launcher.models.wheel import copy_member
from launcher.plan.amounts import RAM
from launcher.plan.from_json import from_json
from launcher.plan.workload import Workload
from launcher.progress import silent
from launcher.system.json_object import Malformed
from launcher.system.pip import PipLimits, _Watch
from launcher.system.settings import read_settings
from tests.attacks.bounds import check_sentence
from tests.deployment.recorded import a_deployment
from tests.make_gguf import make_gguf
from tests.models.test_wheel import make_wheel
from tests.plan.shapes import machine

ROOT = Path(__file__).parents[2]
CAPTURES = ROOT / "tests" / "captures"
REFUSALS = (LauncherError, Malformed)
"""What a parser may raise: errors that are a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """`good` is a text of the format; `read` reads a bent one, and raises nothing but REFUSALS."""

    good: bytes
    read: Callable[[bytes], object]


def _headers(folder: Path) -> Parser:
    return Parser(good=_good_headers(folder), read=_whole(folder / "bent.gguf", open_path))


def _saved(folder: Path) -> Parser:
    _good_headers(folder)
    good = save_headers(open_path(folder / "good.gguf"), folder / "good.headers").read_bytes()
    return Parser(good=good, read=_from_file(folder / "bent.headers", open_path))


def _lock(folder: Path) -> Parser:
    return Parser(good=_good_lock(folder), read=_from_file(folder / "bent.lock", read_lock))


def _plan(folder: Path) -> Parser:
    return Parser(good=json.dumps(json.loads(_good_lock(folder))["plan"]).encode(), read=_read_plan)


def _record(folder: Path) -> Parser:
    good = json.dumps(record_json(a_deployment())).encode()
    return Parser(good=good, read=_in(folder / "records", "m.json", read_all))


def _claims(folder: Path) -> Parser:
    name, good = _good_claim(folder / "good")
    return Parser(good=good, read=_in(folder / "claims", name, read_claims))


def _history(folder: Path) -> Parser:
    return Parser(good=_good_history(folder), read=_from_file(folder / "history.jsonl", history.read_history))


def _machine(_folder: Path) -> Parser:
    return Parser(good=(ROOT / "profiles/machines/epyc2-768g-5090.toml").read_bytes(), read=_read_machine)


def _profile(_folder: Path) -> Parser:
    return Parser(good=(ROOT / "profiles/models/kimi-k2.5.toml").read_bytes(), read=_read_profile)


def _config(_folder: Path) -> Parser:
    return Parser(good=b'engine = "/opt/llama.cpp/llama-server"\n', read=_read_config)


def _journal(folder: Path) -> Parser:
    part = folder / "m.gguf.part"
    return Parser(good=GOOD_JOURNAL, read=_from_file(journal_path(part), lambda _: arrived_bytes(part)))


def _help(_folder: Path) -> Parser:
    return Parser(good=(CAPTURES / "engine/help-0c1e570.txt").read_bytes(), read=_read_engine_text)


def _log(_folder: Path) -> Parser:
    logs = sorted((CAPTURES / "logs").iterdir(), key=lambda file: file.stat().st_size)
    return Parser(good=b"\n".join(file.read_bytes() for file in logs[:20]), read=_read_log)


def _commit(_folder: Path) -> Parser:
    good = json.dumps({"id": "user/repo", "sha": "a" * 40, "siblings": [{"rfilename": "m.gguf"}]}).encode()
    return Parser(good=good, read=parse_commit)


def _listing(_folder: Path) -> Parser:
    file = {"type": "file", "path": "m-Q8_0.gguf", "size": 10, "lfs": {"oid": "b" * 64, "size": 10}}
    good = json.dumps([{"type": "directory", "path": "x"}, file, file | {"path": "README.md"}]).encode()
    return Parser(good=good, read=lambda data: parse_page(data, data.decode("latin-1")[:70_000]))


def _wheel(folder: Path) -> Parser:
    source, path = make_wheel(folder / "index", b"x" * 5000), folder / "bent.whl"
    (good,) = (folder / "index").iterdir()
    return Parser(
        good=good.read_bytes(), read=_from_file(path, lambda _: copy_member(source, path, len, silent))
    )


def _pip_output(folder: Path) -> Parser:
    words = "Downloading a.whl (98.0 MB)\nProgress 1000000 of 98000000\n ━━━━ 1.0/98.0 MB ? eta -:--:--\n"
    words += "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n     Got        " + "c" * 64 + "\n"
    return Parser(good=words.encode(), read=lambda data: _read_pip_output(data, folder))


PARSERS: dict[str, Callable[[Path], Parser]] = {
    "headers": _headers,
    "saved headers": _saved,
    "lock": _lock,
    "plan": _plan,
    "record": _record,
    "claims": _claims,
    "history": _history,
    "machine": _machine,
    "profile": _profile,
    "config": _config,
    "journal": _journal,
    "commit": _commit,
    "listing": _listing,
    "wheel": _wheel,
    "output of pip": _pip_output,
    "engine help": _help,
    "load log": _log,
}
"""By format: writes what it needs into the folder, in which LAUNCHER_HOME is to be, too."""

GOOD_JOURNAL = (
    json.dumps(
        {"identity": "x", "size": 100_000_000, "unit": 8_000_000, "version": "v", "boot": "b"}
    ).encode()
    + b"\nw 0\nw 3\ns 1\ns 4\n"
)


def _from_file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    def write_and_read(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return write_and_read


def _whole(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Read a bent beginning of a file that has the size of the good one."""

    def write_and_read(data: bytes) -> object:
        path.write_bytes(data)
        os.truncate(path, (path.parent / "good.gguf").stat().st_size)
        return read(path)

    return write_and_read


def _in(folder: Path, name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    folder.mkdir(exist_ok=True)

    def write_and_read(data: bytes) -> object:
        (folder / name).write_bytes(data)
        return read(folder)

    return write_and_read


def _good_headers(folder: Path) -> bytes:
    path = folder / "good.gguf"
    make_gguf(path, "qwen3moe", hollow=True)
    return path.read_bytes()[:40_000]


def _good_lock(folder: Path) -> bytes:
    make_gguf(folder / "good.gguf", "qwen3moe", hollow=True)
    here = here_with()
    request = PlanRequest(ref=str(folder / "good.gguf"), workload=Workload(ctx_size=512))
    write_lock(plan_on(here, request, inspect(here, request.ref), machine(), None), folder / "good.lock")
    return (folder / "good.lock").read_bytes()


def _good_claim(folder: Path) -> tuple[str, bytes]:
    me = identify(os.getpid())
    assert me is not None
    write_claim(folder, "k", Claim(name="m", process=me, rows={"GPU-1": 10, RAM: 1 << 30}))
    [file] = [file for file in folder.iterdir() if file.stat().st_size]
    return file.name, file.read_bytes()


def _good_history(folder: Path) -> bytes:
    entry = HistoryEntry(
        at="2026-11-01T00:00:00+00:00",
        name="m",
        model_id="m",
        identity=Identity(plan="0" * 16, engine="e", driver=None),
        outcome="ready",
        load_s=1.0,
    )
    history.append_entry(folder / "good.jsonl", entry)
    return (folder / "good.jsonl").read_bytes() * 3


def _read_plan(data: bytes) -> object:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None  # the file's reader refuses it before
    return from_json(document)


def _read_machine(data: bytes) -> object:
    return parse_machine(data.decode(errors="replace"), "bent")


def _read_profile(data: bytes) -> object:
    return find_profiles({"bent": data.decode(errors="replace")})


def _read_config(data: bytes) -> object:
    path = read_settings(lambda _: None).config_file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    try:
        return read_settings()
    finally:
        path.unlink()


def _read_engine_text(data: bytes) -> object:
    text = data.decode(errors="replace")
    return parse_help(text), parse_version(text), parse_device_list(text)


def _read_pip_output(data: bytes, folder: Path) -> object:
    watch = _Watch(folder, "a.whl", silent, PipLimits())
    for line in data.decode(errors="replace").split("\n"):
        watch.line(line)
    trouble = watch.judge(1, PipLimits())
    check_sentence(trouble.reason, 500)
    return trouble


def _read_log(data: bytes) -> object:
    text = data.decode(errors="replace")
    return diagnose(text, 1), usage_by_row(text)
