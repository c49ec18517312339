"""Run one rank of a gang on this machine, in memory that is free and claimed for it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from launcher.commands.claims import by_memory, claim, read_reserved, without_reserved
from launcher.commands.engine import engine_or_none
from launcher.commands.here import Here
from launcher.commands.probe import look_once, probe
from launcher.deployment import claims
from launcher.deployment.cluster import rpc_relay
from launcher.deployment.cluster.messages import Word, format_message
from launcher.deployment.cluster.private_socket import check_socket
from launcher.deployment.cluster.rank import run_rank
from launcher.deployment.identity import identify
from launcher.deployment.options import SupervisorOptions
from launcher.deployment.record import Deployment, Phase, check_name
from launcher.deployment.records import check_disk_space, log_path, make_private, now
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import RPC_SERVER, Engine
from launcher.errors import DoesNotFit, LauncherError, NotFound, UsageError
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST
from launcher.plan.from_json import StoredPlan
from launcher.plan.memory.budget import free_bytes
from launcher.plan.placement.group.members import LOOPBACK, PORT, PROCESSOR
from launcher.units import format_bytes

_GRACE_S = 2.0  # from SIGTERM to SIGKILL: a ggml-rpc-server ends at once, or is frozen
# -I, -S: nothing is imported but the standard library.
_RELAY = (sys.executable, "-I", "-S", rpc_relay.__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRequest:
    name: str
    epoch: int
    device: str
    n_bytes: int
    socket: str  # where its head is led to
    engine_sha256: str


def serve_rank(here: Here, request: RankRequest) -> str | None:
    """Run the rank until its head lets it go; return why it ended by itself.

    The head hears of every error.
    """
    try:
        folder = here.settings.deployments_dir
        make_private(folder)
        check_disk_space(folder)
        engine = _engine(here, request)
        check_socket(request.socket)
        rows = _claim(here, request, engine)
        try:
            return run_rank(folder, _record(here, request, engine, rows), request.epoch)
        finally:
            claims.drop_claim(here.settings.claims_dir, claims.claim_key(folder, request.name))
    except LauncherError as error:
        os.write(1, format_message(Word.LOST, error.message))
        raise


def _engine(here: Here, request: RankRequest) -> Engine:
    """Return the engine here. Raises UsageError for another one than the head's."""
    # RPC's own check accepts servers whose operations have other numbers (a patch number that differs).
    engine = engine_or_none(here, None, look_once(here))
    if engine is None:
        raise NotFound("there is no engine on this machine", hint="launcher engine install")
    sha256 = read_capabilities(engine, here.settings.cache_dir).sha256
    if sha256 != request.engine_sha256:
        raise UsageError(
            f"the engine here is another than the head's: sha256 {sha256[:12]}, "
            f"and {request.engine_sha256[:12]}",
            hint="launcher engine install, on both",
        )
    if not os.access(engine.folder / RPC_SERVER, os.X_OK):
        raise NotFound(f"{engine.folder} has no {RPC_SERVER}", hint="launcher engine install")
    return engine


def _claim(here: Here, request: RankRequest, engine: Engine) -> dict[str, int]:
    """Reserve the rank's bytes. Raises DoesNotFit if they are not free, NotFound without the device."""
    key = claims.claim_key(here.settings.deployments_dir, check_name(request.name))
    with claims.hold_planning_lock(here.settings.claims_dir):
        reserved = read_reserved(here, but_not=key)
        machine = without_reserved(probe(here, engine=engine), reserved.rows)
        free = _free(machine, request.device)
        if request.n_bytes > free:
            raise DoesNotFit(
                f"{request.device} has {format_bytes(free)} free, "
                f"and the rank takes {format_bytes(request.n_bytes)}",
                hint="launcher ps",
            )
        where = HOST if request.device == PROCESSOR else request.device
        rows = by_memory({where: request.n_bytes}, machine)
        claim(here, key, request.name, rows, os.getpid())
    return rows


def _free(machine: Machine, name: str) -> int:
    if name == PROCESSOR:
        return machine.ram_available_bytes
    device = next((device for device in machine.devices if device.id == name), None)
    if device is None:
        known = ", ".join(device.id for device in machine.devices) or PROCESSOR
        raise NotFound(f"this machine has no device {name[:40]!r}; it has {known}", hint="launcher probe")
    return free_bytes(device)


def _record(here: Here, request: RankRequest, engine: Engine, rows: dict[str, int]) -> Deployment:
    folder, program = here.settings.deployments_dir, engine.folder / RPC_SERVER
    return Deployment(
        name=request.name,
        model_id=f"a rank of {request.name.rpartition('.')[0]}",
        url=f"http://{LOOPBACK}:{PORT}",
        host=LOOPBACK,
        port=PORT,  # of the loopback that it has to itself
        process=None,
        starter=identify(os.getpid()),
        phase=Phase.STARTING,
        model_path="/",  # its head reads the model; a record needs a path
        model_bytes=0,
        argv=(*_RELAY, request.socket, str(program), "-d", request.device),
        env_dropped=(),
        stored_plan=StoredPlan(document={}, plan=None, problem="a rank has none of its own"),
        plan_hash="",
        log_path=str(log_path(folder, request.name)),
        engine_path=str(engine.path),
        engine_sha256=request.engine_sha256,
        engine_commit=None,
        api_key_file=None,
        started_at=now(),
        options=SupervisorOptions(
            claim=rows,
            claim_folder=str(here.settings.claims_dir.absolute()),
            epoch=request.epoch,
            socket=request.socket,
            grace_s=_GRACE_S,
        ),
    )
