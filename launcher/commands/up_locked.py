"""`up --locked`: exactly what is in a lock file, nothing planned."""

from __future__ import annotations

import os

from launcher.commands.claims import by_memory, claim
from launcher.commands.companions import files_of
from launcher.commands.engine import Confirm
from launcher.commands.lock import Lock, check_engine, companions_of, locate, with_brought
from launcher.commands.probe import MachineChoice, machine_for
from launcher.commands.pull import fetch_all_of
from launcher.commands.start import Upping, UpRequest, What, _engine_while, _looked_up, start
from launcher.deployment import claims
from launcher.deployment.record import Deployment
from launcher.deployment.supervisor.ready import LoadFailed
from launcher.engine.capabilities import read_capabilities
from launcher.engine.log.cause import MEMORY_KINDS
from launcher.models.catalogue import sources_of
from launcher.plan.from_json import StoredPlan
from launcher.progress import OnProgress
from launcher.system.settings import Settings


def _up_locked(
    request: UpRequest,
    lock: Lock,
    settings: Settings,
    confirm: Confirm,
    on_progress: OnProgress,
    *,
    keep_up: bool,
) -> Deployment:
    """Start exactly what is locked, and keep it up. Nothing is planned, so nothing is planned again where memory runs
    out: the error says what would be."""
    sources = sources_of(settings)
    name, asked, running = _looked_up(request, settings, lock.model_id)
    if running is not None:
        return running
    again = ("launcher", "up", "--locked", str(lock.file))
    engine = _engine_while(
        lambda _: (locate(lock, sources), *files_of(companions_of(lock, sources))),
        lambda _: again,
        request,
        settings,
        sources,
        confirm,
        on_progress,
    )
    found = read_capabilities(engine, settings.cache_dir)
    check_engine(lock, found)
    located = locate(lock, sources)
    remote = companions_of(lock, sources)
    wanted = (located, *files_of(remote))
    paths, *beside = fetch_all_of(wanted, sources, confirm, on_progress, again)
    brought = tuple(one[0] for one in beside)
    lock = with_brought(lock, remote, brought, found)
    machine = machine_for(MachineChoice(), engine, settings)
    upping = Upping(request, name, asked, paths[0], engine, machine, found, keep_up, brought)
    return _start_locked(upping, lock, located.model.size_bytes, settings, on_progress)


def _start_locked(
    upping: Upping, lock: Lock, model_bytes: int, settings: Settings, on_progress: OnProgress
) -> Deployment:
    what = What(
        model_id=lock.model_id,
        model_bytes=model_bytes,
        stored_plan=StoredPlan(document=lock.document, plan=lock.plan),
        rows=by_memory(lock.rows, upping.machine),
        compile=lock.compile,
    )
    key = claims.claim_key(settings.deployments_dir, upping.name)
    claim(settings.claims_dir, key, upping.name, lock.rows, os.getpid())
    try:
        return start(upping, what, settings, on_progress, {})
    except BaseException as error:
        claims.drop_claim(settings.claims_dir, key)
        if isinstance(error, LoadFailed) and error.cause.kind in MEMORY_KINDS:
            error.hint = f"{lock.unlocked}: plans it anew for the memory that is free now; {lock.file} promises exactly this plan"
        raise
