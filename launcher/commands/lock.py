"""Keep a plan in a file, to start it again later or elsewhere exactly as it was.

It names commit, bytes, engine and command line. `plan --lock FILE` writes it, `up --locked FILE` obeys it or
refuses.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from launcher.commands.companions import RemoteCompanion, shown_flags
from launcher.commands.planned import Planned, document, fitting, profile_flags_of
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving, server_argv
from launcher.engine.flags.companion_flags import names_remote_file
from launcher.engine.flags.from_file import check_flags_from_file
from launcher.engine.flags.help_text import Capabilities
from launcher.errors import LauncherError, UsageError
from launcher.models.located import DeferredFiles, HubFiles, LocalFiles, Located, UrlFiles
from launcher.models.url_secrets import quote_command, strip_word_secrets
from launcher.plan.amounts import HOST, RAM
from launcher.plan.from_json import from_json
from launcher.plan.plan import Plan
from launcher.system.atomic_files import write_named
from launcher.system.json_object import JsonObject, parse_json
from launcher.system.small_files import read_small_text

FORMAT = "gguf-launcher lock 2"

_MAX_BYTES = 16 << 20  # a lock with the alternatives of every quant has some 100 kB


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFiles:
    """The files of a model, as the lock in `file` names them."""

    file: Path
    model_id: str
    # of the Hub; None for local files
    repo: str | None
    commit: str | None
    # of the first shard; None for files of the Hub
    path: str | None
    # name, size in bytes, sha256
    shards: tuple[tuple[str, int, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedCompanion(LockedFiles):
    """A companion that is somewhere else, locked."""

    what: str
    flag: str
    also: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock(LockedFiles):
    """A lock file, read. `document` is the plan's whole JSON."""

    ref: str
    companions: tuple[LockedCompanion, ...]
    engine_sha256: str | None
    engine_commit: str | None
    # as printed, for people: what is started is compiled from the plan and these flags
    argv: tuple[str, ...]
    flags: tuple[str, ...]
    profile_flags: tuple[str, ...]
    plan: Plan
    document: Mapping[str, object]
    text: str  # the whole file

    @property
    def unlocked(self) -> str:
        """Command that plans the same anew."""
        return " ".join(["launcher up", shlex.quote(self.ref), "-c", str(self.plan.ctx_size)])

    @property
    def rows(self) -> dict[str, int]:
        """Bytes that the plan uses, by device and `ram`."""
        rows = {row.where: row.used_bytes for row in self.plan.ledger}
        ram = rows.pop(HOST, 0)
        return {**rows, RAM: ram}

    def compile(
        self, engine: Engine, known: Capabilities, flags: Sequence[str], serving: Serving
    ) -> tuple[str, ...]:
        """Compile the locked plan for an engine; `flags` are the locked ones, companions by their paths.

        Raises UsageError for flags that a file may not set, and if the locked line is not that of its plan.
        """
        given = (*self.profile_flags, *self.flags, *flags)
        check_flags_from_file(given, str(self.file))
        if names_remote_file((*self.profile_flags, *flags)):  # what launcher brings is a path by now
            raise UsageError(
                f"{self.file} has llama-server download a file that it does not lock",
                hint="make the lock anew with launcher plan REF --lock FILE",
            )
        if self.engine_commit == known.version.commit:  # another engine has other spellings
            _refuse_other_line(self, server_argv_of(self, known, self.flags, _locked_serving(self)))
        return server_argv_of(self, known, flags, serving, program=str(engine.path))


def write_lock(planned: Planned, path: Path) -> None:
    """Write the plan's lock. Raises what `lock_document` raises, UsageError if it cannot be written."""
    try:
        write_named(path, json.dumps(lock_document(planned), indent=1).encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint="name another file") from error


def lock_document(planned: Planned) -> dict[str, object]:
    """Return the plan's lock as JSON. Raises DoesNotFit without a plan, UsageError if it has no files."""
    _, located = fitting(planned)
    known = planned.capabilities
    return {
        "format": FORMAT,
        "ref": strip_word_secrets(planned.request.ref),
        **_files_of(located, planned.request.ref),
        "model_id": planned.target.model_id,
        "beside": [_companion(one) for one in planned.companions.remote],
        "engine": {
            "sha256": known.sha256 if known else None,
            "commit": known.version.commit if known else None,
        },
        "argv": list(planned.argv),
        "flags": list(shown_flags(planned.request.flags)),
        "profile_flags": list(profile_flags_of(planned)),
        "plan": document(planned),
    }


def _files_of(located: Located, ref: str) -> dict[str, object]:
    files: dict[str, object]
    match located.files:
        case HubFiles(repo=repo, commit=commit):
            files = {"repo": repo, "commit": commit}
        case LocalFiles(paths=paths):
            files = {"path": str(paths[0].absolute())}
        case DeferredFiles():
            raise UsageError(
                f"{located.model.model_id} is not here yet, and a lock names its file",
                hint=quote_command(("launcher", "pull", ref)),
            )
        case _:
            raise UsageError(
                f"{located.model.model_id} has no files that a lock could name",
                hint="lock a plan of a hub model or a local file",
            )
    shards = [
        {"name": shard.name, "size_bytes": shard.size_bytes, "sha256": shard.sha256}
        for shard in located.model.shards
    ]
    return {"model_id": located.model.model_id, **files, "shards": shards}


def _companion(remote: RemoteCompanion) -> dict[str, object]:
    if isinstance(remote.file, LauncherError):
        raise remote.file
    if isinstance(remote.file.files, UrlFiles):
        raise UsageError(
            f"the {remote.what} {remote.file.model.source} is behind a plain URL, "
            "and a lock cannot say which file that is",
            hint=f"{quote_command(('launcher', 'pull', remote.ref))}; "
            f"then plan with {remote.flag} FILE, the path it prints",
        )
    words = {"what": remote.what, "flag": remote.flag, "also": list(remote.also)}
    return {**words, **_files_of(remote.file, remote.ref)}


def read_lock(path: Path) -> Lock:
    """Return the lock in a file. Raises UsageError for any other file."""
    try:
        text = read_small_text(path, most_bytes=_MAX_BYTES)
        return _parse_lock(path, text)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=f"ls -l {path}") from error
    except (ValueError, RecursionError, UsageError) as error:
        raise UsageError(
            f"{path} is no lock of a plan: {error}", hint="make one with launcher plan REF --lock FILE"
        ) from error


def _parse_lock(path: Path, text: str) -> Lock:
    given = JsonObject(parse_json(text))
    if given.text("format") != FORMAT:
        raise given.malformed("format", f"is not {FORMAT!r}")
    engine, document = given.object_at("engine"), given.mapping("plan")
    return Lock(
        **_parse_files(path, given),
        ref=given.text("ref"),
        companions=tuple(
            LockedCompanion(
                **_parse_files(path, companion),
                what=companion.text("what"),
                flag=_companion_flag(companion),
                also=companion.texts("also"),
            )
            for companion in (given.objects_at("beside") if given.has("beside") else ())
        ),
        engine_sha256=engine.optional_text("sha256"),
        engine_commit=engine.optional_text("commit"),
        argv=given.texts("argv"),
        flags=given.texts("flags"),
        profile_flags=given.texts("profile_flags"),
        plan=from_json(document),
        document=document,
        text=text,
    )


def _companion_flag(given: JsonObject) -> str:
    flag = given.text("flag")
    if flag not in {"-md", "-mm"}:
        raise given.malformed("flag", "is neither -md nor -mm")
    return flag


class _Files(TypedDict):
    """The fields of LockedFiles."""

    file: Path
    model_id: str
    repo: str | None
    commit: str | None
    path: str | None
    shards: tuple[tuple[str, int, str | None], ...]


def _parse_files(file: Path, given: JsonObject) -> _Files:
    shards = given.objects_at("shards")
    if not shards:
        raise given.malformed("shards", "is empty")
    return _Files(
        file=file,
        model_id=given.text("model_id"),
        repo=given.optional_text("repo"),
        commit=given.optional_text("commit"),
        path=given.optional_text("path"),
        shards=tuple(
            (shard.text("name"), shard.whole("size_bytes"), shard.optional_text("sha256")) for shard in shards
        ),
    )


def server_argv_of(
    lock: Lock, known: Capabilities, flags: Sequence[str], serving: Serving, program: str = "llama-server"
) -> tuple[str, ...]:
    """Compile the locked plan with these user flags, in the spellings of one engine."""
    return server_argv(
        lock.plan,
        serving,
        program=program,
        capabilities=known,
        profile_flags=lock.profile_flags,
        user_flags=flags,
    )


def _locked_serving(lock: Lock) -> Serving:
    """Read the address and names back from the locked line, to compare all the rest."""
    words = dict(zip(lock.argv, lock.argv[1:], strict=False))
    port = words.get("--port", "")
    return Serving(
        host=words.get("--host", ""),
        port=int(port) if port.isdecimal() and len(port) < 6 else 0,
        model_id=words.get("-a", ""),
        model_path=words.get("-m", ""),
    )


def _refuse_other_line(lock: Lock, compiled: tuple[str, ...]) -> None:
    """Raise UsageError if the locked line is not the compiled one, whatever its program is called."""
    options = _options(compiled)
    given = lock.argv[len(compiled) - len(options) :]
    if given == options:
        return
    foreign = next((word for word in given if word not in compiled), None)
    problem = "is not the one" if foreign is None else f"has {foreign[:100]!r}, which is not in the one"
    raise UsageError(
        f"the command line in {lock.file} {problem} that its plan and flags give",
        hint="make the lock anew with launcher plan REF --lock FILE",
    )


def _options(argv: tuple[str, ...]) -> tuple[str, ...]:
    return argv[argv.index("llama-server") + 1 :]
