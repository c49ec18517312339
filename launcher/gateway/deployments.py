"""Plan, start, find and end the deployments behind the gateway. Blocking: called in threads.

Deployments are `up`'s, so claims, rescue, history and supervision are the same. Nothing is downloaded: a
request must not begin a transfer of hundreds of gigabytes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import psutil

from launcher.commands.claims import read_reserved, without_reserved
from launcher.commands.cluster.membership import nodes_file
from launcher.commands.engine import engine_or_none
from launcher.commands.here import Here
from launcher.commands.probe import look_once, probe
from launcher.deployment.cluster.nodes import read_nodes
from launcher.deployment.history import HistoryEntry, read_history
from launcher.deployment.identity import Presence, ProcessId, find_presence
from launcher.deployment.process import process_tree, read_activity
from launcher.deployment.record import Deployment, Phase
from launcher.deployment.records import find_record, make_private, read_all
from launcher.deployment.replicas import draining
from launcher.deployment.status import DeploymentState, read_status, with_its_server
from launcher.deployment.takedown import take_down
from launcher.engine.find import Engine
from launcher.engine.key_file import read_api_key
from launcher.errors import DoesNotFit, LauncherError, NotFound
from launcher.gateway.admission.state import Bytes
from launcher.gateway.catalogue import Servable
from launcher.gateway.engine_http import Address
from launcher.gateway.places import Place, free_in, places_of
from launcher.gateway.planned_start import Means, PlannedStart
from launcher.machine.machine import Machine
from launcher.plan.amounts import RAM
from launcher.progress import OnProgress
from launcher.system.owned_files import open_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A deployment that answers, or will again."""

    name: str
    model_id: str
    address: Address
    secret: str | None
    is_ours: bool  # a gateway started it
    is_ready: bool
    needs: Bytes
    slots: int
    ctx_size: int | None
    size_bytes: int
    sees: bool = False  # it takes images, or sounds
    problem: str | None = None  # why it cannot be asked
    replica_of: str | None = None  # the name that it is asked for under, beside others like it
    node: str | None = None  # the machine of the cluster that it is on; None: this one
    is_draining: bool = False  # it takes nothing new while another replica can


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    running: Running
    seen: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What another model could take now, and what was taken when that was read."""

    free: Bytes
    beside: Mapping[str, Bytes] | None  # what deployments have, by name; None: nobody knows


class Deployments:
    """This machine's deployments, as the gateway starts and finds them."""

    def __init__(self, here: Here, *, max_ram_bytes: int | None = None, engine: Path | None = None) -> None:
        # nobody is at the terminal to be asked about a build
        self._here = replace(here, confirm=lambda _question: False)
        self._max_ram = max_ram_bytes
        self._engine_path = engine
        self.places: dict[str, Place] = {}  # as last measured
        self._found_engine: Engine | None = None
        self._drivers_tell = False
        self._planning = threading.Lock()  # one at a time: each simulates for half a second on all cores

    @property
    def folder(self) -> Path:
        return self._here.settings.deployments_dir

    @cached_property
    def key_file(self) -> Path:
        """Return the file with the engines' own secret, made when it is not there."""
        folder = self._here.settings.gateway_dir
        make_private(folder)
        path = folder / "engine-key"
        try:
            read_api_key(path)
        except LauncherError:
            descriptor = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{secrets.token_urlsafe(32)}\n")
        return path

    def plan(self, servable: Servable) -> PlannedStart:
        """Plan the model for this machine as it is without our models.

        Raises DoesNotFit and what planning raises.
        """
        from launcher.gateway import starts  # noqa: PLC0415  half of a start's time, and nothing needs it yet

        with self._planning:
            machine = self._without_ours(probe(self._here, engine=self._engine))
            return starts.plan_start(self._means, servable, machine)

    def shrink(self, servable: Servable) -> PlannedStart | None:
        """Plan the model for what is free now, as `up` would; None if it does not fit."""
        from launcher.gateway import starts  # noqa: PLC0415  as above

        with self._planning:
            reserved = read_reserved(self._here)
            machine = without_reserved(probe(self._here, engine=self._engine), reserved.rows)
            try:
                return starts.plan_start(self._means, servable, machine)
            except DoesNotFit:
                return None

    def start(self, servable: Servable, on_progress: OnProgress) -> Started:
        """Bring the model up. Raises what `up` raises; then nothing of it runs."""
        from launcher.gateway import starts  # noqa: PLC0415  as above

        entry = starts.start(self._means, servable, on_progress)
        running = self._running(entry)
        history = read_history(self._here.settings.history_file)
        return Started(running=running, seen=seen_bytes(running.needs, entry, history))

    def stop(self, name: str) -> None:
        try:
            take_down(self.folder, name)
        except NotFound:
            return

    def cpu_s(self, name: str) -> float | None:
        """Return the CPU time that the deployment's server has taken; None if nobody can tell."""
        process = self._server_of(name)
        activity = None if process is None else read_activity(process)
        return None if activity is None else activity.cpu_s

    def end_server(self, name: str) -> None:
        """Kill the deployment's server, and not its supervisor."""
        process = self._server_of(name)
        for member in () if process is None else process_tree(process):
            with contextlib.suppress(psutil.Error):
                member.kill()

    def _server_of(self, name: str) -> ProcessId | None:
        entry = find_record(self.folder, name)
        return with_its_server(entry).process if isinstance(entry, Deployment) else None

    def read_memory(self) -> Memory:
        """Return the bytes that another model of ours could take now, by device and RAM."""
        # Before the look at what is free, and claims after it: what is in either is not free.
        ready = {running.name: running.needs for running in self.find_all()}
        machine = self._machine_now()
        self.places = places_of(machine)
        reserved = read_reserved(self._here)
        claimed = {claim.name: claim.rows for claim, _ in reserved.by_claim if claim.owner == os.geteuid()}
        free, beside = free_in(without_reserved(machine, reserved.rows)), ready | claimed
        if self._max_ram is not None:
            in_use = sum(rows.get(RAM, 0) for rows in beside.values())
            free[RAM] = min(free[RAM], max(0, self._max_ram - in_use))
        return Memory(free=free, beside=beside)

    def find_all(self) -> tuple[Running, ...]:
        """List the deployments here that run or are being started again."""
        found = []
        for entry in read_all(self.folder):
            if not isinstance(entry, Deployment) or entry.phase is Phase.STOPPING:
                continue
            if entry.options.epoch is not None:  # a rank of a gang elsewhere answers its head alone
                continue
            runs = entry.phase is not Phase.STARTING and read_status(entry).state in {
                DeploymentState.RUNNING,
                DeploymentState.DEGRADED,
                DeploymentState.BACKOFF,
            }
            if runs or _is_back_soon(entry):
                found.append(self._running(entry))
        if any(running.replica_of is not None for running in found):
            draining = self._draining()
            found = [
                replace(each, is_draining=not draining.isdisjoint({each.name, each.node})) for each in found
            ]
        return tuple(found)

    def _draining(self) -> set[str | None]:
        """Return the deployments and machines that take nothing new."""
        names: set[str | None] = set(draining(self.folder))
        with contextlib.suppress(LauncherError):  # a file that cannot be read is said to who changes it
            names |= {node.name for node in read_nodes(nodes_file(self._here.settings)) if node.draining}
        return names

    # ---- how ----

    @property
    def _means(self) -> Means:
        return Means(
            here=self._here,
            engine=self._engine,
            engine_path=self._engine_path,
            max_ram_bytes=self._max_ram,
            api_key_file=self.key_file,
        )

    @property
    def _engine(self) -> Engine | None:
        if self._found_engine is None:  # one may be built or installed meanwhile
            self._found_engine = engine_or_none(self._here, self._engine_path)
        return self._found_engine

    def _machine_now(self) -> Machine:
        """Look at the machine; without the engine where drivers tell as much.

        An engine that lists its devices takes a second and some hundred MiB on every GPU.
        """
        if self._drivers_tell:
            return probe(self._here)
        engine, look = self._engine, look_once(self._here)
        machine = probe(self._here, engine=engine, look=look)
        if engine is not None and machine.devices:  # without GPUs its list costs nothing
            self._drivers_tell = machine.devices == probe(self._here, look=look).devices
        return machine

    def _running(self, entry: Deployment) -> Running:
        plan = entry.plan
        key_file = entry.api_key_file
        secret, problem = None, None
        try:
            secret = read_api_key(key_file)
        except LauncherError as error:  # of one deployment, and hides none of the others
            problem = error.message
        return Running(
            name=entry.name,
            model_id=entry.model_id,
            address=Address(_reachable(entry.url), entry.port),
            secret=secret,
            problem=problem,
            is_ours=key_file == str(self.key_file),
            is_ready=entry.phase is Phase.READY,
            needs=dict(entry.options.claim),
            slots=1 if plan is None else plan.n_parallel,
            ctx_size=None if plan is None else plan.ctx_size,
            size_bytes=entry.model_bytes,
            sees=not {"--mmproj", "-mm"}.isdisjoint(entry.argv),
            replica_of=entry.options.replica_of,
            node=entry.options.node,
        )

    def _without_ours(self, machine: Machine) -> Machine:
        """Return the machine as it would be if none of our models ran, and with what others reserve."""
        reserved = read_reserved(self._here)
        names = {running.name for running in self.find_all()}
        less = dict(reserved.rows)
        for claim, _ in reserved.by_claim:
            if claim.is_trusted and claim.name in names:
                for row, n_bytes in claim.rows.items():
                    less[row] = less.get(row, 0) - n_bytes
        return without_reserved(machine, less)


def _is_back_soon(entry: Deployment) -> bool:
    """Tell if its server ended, and its supervisor starts it again: its memory stays its own."""
    keeper = entry.supervisor
    was_ready = entry.phase in {Phase.READY, Phase.DEGRADED, Phase.BACKOFF} or entry.restarts > 0
    return (
        entry.options.keep_up
        and was_ready
        and entry.phase is not Phase.FAILED
        and keeper is not None
        and find_presence(keeper) is Presence.RUNNING
    )


def seen_bytes(needs: Bytes, entry: Deployment, history: Sequence[HistoryEntry]) -> Bytes:
    """Return what the deployment was seen to take: on GPUs the growth that drivers reported over its load.

    In RAM what is claimed counts, as in every plan: what was seen there grows with use.
    """
    last = next((each for each in reversed(history) if each.name == entry.name), None)
    if last is None or last.outcome != "ready":
        return needs
    grown = {entry.options.devices.get(device, device): n for device, n in last.driver_bytes.items() if n}
    return {**needs, **{place: n_bytes for place, n_bytes in grown.items() if place in needs}}


def _reachable(url: str) -> str:
    return url.partition("://")[2].rpartition(":")[0].strip("[]")
