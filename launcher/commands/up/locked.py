"""Bring up exactly what a lock file holds (`up --locked`); nothing is planned."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from launcher.commands.claims import by_memory, claim
from launcher.commands.companions import files_of, with_files
from launcher.commands.engine_build import engine_or_build
from launcher.commands.here import Here
from launcher.commands.lock import Lock, read_lock
from launcher.commands.lock_match import check_devices, check_engine, companions_of, locate
from launcher.commands.probe import probe
from launcher.commands.pull import fetch_all
from launcher.commands.up.pull_meanwhile import pull_meanwhile
from launcher.commands.up.request import UpRequest, look_up
from launcher.commands.up.start import Attempt, Launchable, attempt_of, start
from launcher.deployment import claims
from launcher.deployment.history import RescueNote
from launcher.deployment.record import Deployment
from launcher.deployment.supervisor.ready import LoadFailed
from launcher.engine.capabilities import read_capabilities
from launcher.engine.flags.argv import Serving
from launcher.engine.log.cause import MEMORY_KINDS
from launcher.models.located import Located
from launcher.plan.from_json import StoredPlan
from launcher.progress import remark


def up_locked(here: Here, request: UpRequest, file: Path) -> Deployment:
    """Start exactly what is locked. Raises UsageError if the files or the engine are others."""
    lock = read_lock(file)
    named = look_up(here, request, lock.model_id, lock.text)
    if named.running is not None:
        return named.running
    again = ("launcher", "up", "--locked", str(lock.file))

    def files(inside: Here) -> tuple[Located, ...]:
        return (locate(lock, inside.sources), *files_of(companions_of(lock, inside.sources)))

    engine = engine_or_build(
        here, request.plan.engine, meanwhile=lambda: pull_meanwhile(here, files, lambda _: again)
    )
    known = read_capabilities(engine, here.settings.cache_dir)
    note = check_engine(lock, known, chosen=request.plan.engine is not None)
    if note is not None:
        here.on_progress(remark("lock", note))
    machine = probe(here, engine=engine)
    check_devices(lock, machine)
    located = locate(lock, here.sources)
    remote = companions_of(lock, here.sources)
    fetched = fetch_all(here, (located, *files_of(remote)), again)
    attempt = attempt_of(request, named, fetched, engine, known, machine)
    flags = with_files(lock.flags, remote, attempt.companion_paths)
    compiled = partial(lock.compile, engine, known, flags)
    return _start_locked(here, attempt, lock, located.model.size_bytes, compiled)


def _start_locked(
    here: Here,
    attempt: Attempt,
    lock: Lock,
    model_bytes: int,
    compiled: Callable[[Serving], tuple[str, ...]],
) -> Deployment:
    launchable = Launchable(
        model_id=lock.model_id,
        model_bytes=model_bytes,
        stored_plan=StoredPlan(document=lock.document, plan=lock.plan),
        rows=by_memory(lock.rows, attempt.machine),
        compile=compiled,
    )
    key = claims.claim_key(here.settings.deployments_dir, attempt.name)
    claim(here, key, attempt.name, launchable.rows, os.getpid())
    try:
        return start(here, attempt, launchable, RescueNote())
    except BaseException as error:
        claims.drop_claim(here.settings.claims_dir, key)
        if isinstance(error, LoadFailed) and error.cause.kind in MEMORY_KINDS:
            # nothing was planned, so nothing is planned again
            error.hint = (
                f"{lock.unlocked}: plans it anew for the memory that is free now; "
                f"{lock.file} promises exactly this plan"
            )
        raise
