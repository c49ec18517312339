"""Match a lock with this machine: its engine, its devices, its files."""

from __future__ import annotations

from pathlib import Path

from launcher.commands.companions import RemoteCompanion
from launcher.commands.lock import Lock, LockedFiles
from launcher.engine.flags.help_text import Capabilities
from launcher.errors import NotFound, UsageError
from launcher.machine.machine import Machine
from launcher.models.catalogue import Sources, resolve
from launcher.models.located import Located
from launcher.models.refs import ModelRef, RefKind
from launcher.progress import silent


def check_engine(lock: Lock, known: Capabilities, *, chosen: bool) -> str | None:
    """Return a sentence if another llama-server runs than the one that the plan was made for.

    Raises UsageError if its commit is another one, unless the user has `chosen` it.
    """
    # the digest is of the program and all its libraries: a build of the same commit elsewhere has another
    if lock.engine_sha256 in {None, known.sha256}:
        return None
    theirs = f"commit {lock.engine_commit or 'unknown'}, digest {(lock.engine_sha256 or '')[:12]}"
    ours = f"commit {known.version.commit or 'unknown'}, digest {known.sha256[:12]}"
    if lock.engine_commit is not None and lock.engine_commit == known.version.commit:
        return f"{lock.file} was made for another build of the same llama.cpp ({theirs}; this one has {ours})"
    sentence = f"{lock.file} was made for the engine of {theirs}, and this one is of {ours}"
    if chosen:
        return f"{sentence}: --engine decides"
    raise UsageError(
        sentence, hint="--engine PATH takes that llama-server all the same, or plan and lock anew"
    )


def check_devices(lock: Lock, machine: Machine) -> None:
    """Raise UsageError if the plan uses devices that this machine does not have."""
    here = [device.id for device in machine.devices]
    missing = [device for device in lock.plan.placement.devices if device not in here]
    if missing:
        raise UsageError(
            f"{lock.file} places the model on {', '.join(missing)}, "
            f"and this machine has {', '.join(here) or 'none'}",
            hint=f"{lock.unlocked}: plans it for this machine",
        )


def companions_of(lock: Lock, sources: Sources) -> tuple[RemoteCompanion, ...]:
    """Look at the companions of the locked model again, as `locate` does."""
    return tuple(
        RemoteCompanion(
            what=one.what, ref=one.model_id, flag=one.flag, also=one.also, file=locate(one, sources)
        )
        for one in lock.companions
    )


def locate(lock: LockedFiles, sources: Sources) -> Located:
    """Look at the locked files again.

    Raises UsageError if they are not the locked ones, NotFound, TryAgain.
    """
    located = _open(lock, sources)
    for (name, size, sha256), shard in zip(lock.shards, located.model.shards, strict=False):
        same_digest = sha256 is None or shard.sha256 is None or sha256 == shard.sha256
        if shard.size_bytes != size or not same_digest or Path(shard.name).name != Path(name).name:
            raise UsageError(
                f"{shard.name} is not the file that {lock.file} locks: {shard.size_bytes} bytes, sha256 "
                f"{shard.sha256}, instead of {size} bytes, {sha256}",
                hint="restore the file, or plan and lock anew",
            )
    if len(lock.shards) != len(located.model.shards):
        raise UsageError(
            f"{lock.model_id} has {len(located.model.shards)} files, "
            f"and {lock.file} locks {len(lock.shards)}",
            hint="restore the files, or plan and lock anew",
        )
    return located


def _open(lock: LockedFiles, sources: Sources) -> Located:
    """Open the locked repo or file; look for a file of another machine beside the lock, then by its REF."""
    from launcher.models.hub.repo import open_repo  # noqa: PLC0415 (the Hub's client takes its time to import)
    from launcher.models.local import open_path  # noqa: PLC0415

    if lock.repo is not None:
        ref = ModelRef(kind=RefKind.HUB, name=lock.repo, file=lock.shards[0][0], revision=lock.commit)
        return open_repo(ref, endpoint=sources.endpoint, store=sources.store)
    if lock.path is None:
        raise NotFound(f"{lock.file} names no files", hint="launcher plan REF --lock FILE")
    path = Path(lock.path)
    for candidate in (path, lock.file.absolute().parent / path.name):
        if candidate.exists():
            return open_path(candidate)
    if isinstance(lock, Lock) and not Path(lock.ref).is_absolute():
        try:
            return resolve(lock.ref, lock.plan.quant, sources).candidates[0].open(silent)
        except (NotFound, UsageError):
            pass  # a path of another machine that looks like a REF
    raise NotFound(
        f"{lock.file} locks {path}, which is not here, nor is {path.name} beside it",
        hint=f"put {path.name} beside {lock.file}, or plan and lock anew",
    )
