"""A gateway with all its own parts, before engines that are real processes and no llama.cpp."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import uvloop

from launcher.deployment.ports import free_port
from launcher.engine.client import is_loaded
from launcher.errors import DoesNotFit, EngineFailed, NotFound
from launcher.gateway import server
from launcher.gateway.admission.state import Policy
from launcher.gateway.app import App, AppOptions
from launcher.gateway.catalogue import Catalogue, Servable
from launcher.gateway.config import GatewayConfig, ModelConfig
from launcher.gateway.deployments import Memory, Running, Started
from launcher.gateway.engine_http import Address, Engines
from launcher.gateway.fallback import Fallback
from launcher.gateway.guard import Doors
from launcher.gateway.keeper import Keeper, KeptOptions
from launcher.gateway.keys import KeyRing
from launcher.gateway.ollama_pull import Disk
from launcher.gateway.places import Place
from launcher.gateway.planned_start import PlannedStart
from launcher.gateway.proxy import Proxy
from launcher.gateway.silence import SilenceLimits
from launcher.gateway.spending import Spending
from launcher.gateway.watch import Watch
from launcher.progress import OnProgress, Step
from tests.serving import FAKE, PATIENCE_S, stub_model

G = 1 << 30
SECRET = "engines-own-secret"


@dataclass
class Kind:
    """A model of the machine."""

    gib: float = 1.0
    switches: Sequence[str] = ()
    fails: str | None = None
    unplanned: str | None = None  # why there is no plan for it
    small_gib: float | None = None  # with fewer layers on GPUs
    slots: int = 4
    load_s: float = 0.0
    command: Sequence[str] = ()  # a real engine's, with its model
    hint: str = "launcher logs"


@dataclass
class FakeDeployments:
    """Starts the fake engine, a process, in place of `up`."""

    folder: Path
    kinds: Mapping[str, Kind]
    capacity_gib: float = 2.0
    processes: dict[str, tuple[subprocess.Popen[bytes], Running]] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    most_held_gib: float = 0.0
    closed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def places(self) -> dict[str, Place]:
        return {"ram": Place(name="RAM", total_bytes=int(self.capacity_gib * G))}

    def plan(self, servable: Servable) -> PlannedStart:
        if (why := self.kinds[servable.key].unplanned) is not None:
            raise DoesNotFit(why)
        can_shrink = self.kinds[servable.key].small_gib is not None
        needs = {"ram": int(self.kinds[servable.key].gib * G)}
        return PlannedStart(needs=needs, load_s=1.0, can_shrink=can_shrink, tokens_per_s=10.0)

    def shrink(self, servable: Servable) -> PlannedStart | None:
        if self.kinds[servable.key].small_gib == 0.0:
            raise RuntimeError("the planner is out of order")
        return PlannedStart(needs=self.needs(servable.key), load_s=1.0, tokens_per_s=8.0)

    def needs(self, key: str) -> dict[str, int]:
        """What `up` would take now."""
        kind, free = self.kinds[key], self.free()["ram"]
        whole = int(kind.gib * G)
        return {"ram": whole if kind.small_gib is None or whole <= free else int(kind.small_gib * G)}

    def start(self, servable: Servable, on_progress: OnProgress) -> Started:
        key, kind = servable.key, self.kinds[servable.key]
        on_progress(Step(phase="load", done=1, total=4, unit="bytes"))
        time.sleep(kind.load_s)
        if kind.fails is not None:
            raise (DoesNotFit if "fit" in kind.fails else EngineFailed)(kind.fails, hint=kind.hint)
        with self.lock:
            assert not self.closed, "a load outlived its test"
            running = self._spawn(key, kind)
        until_answers(f"http://127.0.0.1:{running.address.port}/health")
        return Started(running=running, seen=running.needs)

    def up(self, name: str, gib: float) -> None:
        """Start a model that the gateway knows nothing of, as `up` does."""
        self.kinds = {**self.kinds, name: Kind(gib)}
        running = self._spawn(name, self.kinds[name], is_ours=False)
        until_answers(f"http://127.0.0.1:{running.address.port}/health")

    def _spawn(self, key: str, kind: Kind, *, is_ours: bool = True) -> Running:
        port = free_port("127.0.0.1")
        process = self._spawn_at(port, key, kind)
        running = Running(
            name=key, model_id=key, address=Address("127.0.0.1", port), secret=SECRET, is_ours=is_ours,
            is_ready=True, needs=self.needs(key), slots=kind.slots, ctx_size=4096, size_bytes=G,
        )  # fmt: skip
        self.processes[key] = (process, running)
        self.starts.append(key)
        self.most_held_gib = max(
            self.most_held_gib, sum(each.needs["ram"] / G for _, each in self.processes.values())
        )
        return running

    def _spawn_at(self, port: int, key: str, kind: Kind, *more: str) -> subprocess.Popen[bytes]:
        key_file = self.folder / "key"
        key_file.write_text(SECRET)
        command = kind.command or (sys.executable, str(FAKE), "-m", str(stub_model(self.folder)))
        options = ("--alias", key, "--port", str(port), "--api-key-file", str(key_file), *kind.switches)
        return subprocess.Popen([*command, *options, *more], stderr=subprocess.DEVNULL)

    def start_again(self, name: str, load_s: float) -> None:
        """Kill a server, and start it again at its port, as its supervisor does."""
        process, running = self.processes[name]
        back_soon = replace(running, is_ready=False)
        self.processes[name] = (process, back_soon)
        process.kill()
        process.wait()
        again = self._spawn_at(running.address.port, name, self.kinds[name], "--load-seconds", str(load_s))
        self.processes[name] = (again, back_soon)

    def stop(self, name: str) -> None:
        process, _ = self.processes.pop(name)
        process.kill()
        process.wait()

    def read_memory(self) -> Memory:
        return Memory(
            free=self.free(), beside={name: each.needs for name, (_, each) in self.processes.items()}
        )

    def free(self) -> dict[str, int]:
        held = sum(running.needs["ram"] for _, running in self.processes.values())
        return {"ram": int(self.capacity_gib * G) - held}

    def find_all(self) -> tuple[Running, ...]:
        for name, (process, running) in tuple(self.processes.items()):
            if not running.is_ready and is_loaded(f"http://127.0.0.1:{running.address.port}"):
                self.processes[name] = (process, replace(running, is_ready=True))
            if process.poll() is not None and running.is_ready:
                process.wait()
                if self.processes.get(name, (None,))[0] is process:  # not one that was started meanwhile
                    del self.processes[name]
        return tuple(running for _, running in self.processes.values())

    def cpu_s(self, name: str) -> float | None:
        with contextlib.suppress(KeyError, psutil.Error):
            times = psutil.Process(self.processes[name][0].pid).cpu_times()
            return times.user + times.system
        return None

    def end_server(self, name: str) -> None:
        self.kill(name)

    def kill(self, name: str) -> None:
        process, _ = self.processes[name]
        process.kill()
        process.wait()


@dataclass
class Gateway:
    """A gateway that answers, as a test sees it."""

    url: str
    deployments: FakeDeployments
    keeper: Keeper
    loop: asyncio.AbstractEventLoop
    app: App

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def call(self, act: Callable[[], Any]) -> Any:
        """Do something in the gateway's own loop, and return what comes of it."""
        done: Future[Any] = Future()

        def run() -> None:
            try:
                done.set_result(act())
            except BaseException as error:  # noqa: BLE001
                done.set_exception(error)

        self.loop.call_soon_threadsafe(run)
        return done.result(PATIENCE_S)


def fetch_new(ref: str, on_progress: OnProgress) -> None:
    """Bring `new` here, as a download would, and nothing else."""
    if ref != "new":
        raise NotFound(f"there is no {ref} anywhere")
    for done in range(0, 101, 50):
        on_progress(Step(phase="pull", done=done, total=100, unit="bytes", text=ref))


def fetch(url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(url, body, dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def raw(gateway: Gateway, request: bytes, *, wait_s: float = 30.0) -> bytes:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=wait_s) as sender:
        sender.sendall(request)
        answer = b""
        while block := sender.recv(65536):
            answer += block
        return answer


def until_answers(url: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


@contextlib.contextmanager
def serving(
    folder: Path,
    kinds: Mapping[str, Kind],
    *,
    capacity_gib: float = 2.0,
    config: GatewayConfig | None = None,
    doors: Doors | None = None,
    policy: Policy | None = None,
    names: Mapping[str, str] | None = None,
    silence: SilenceLimits | None = None,
    **options: Any,
) -> Iterator[Gateway]:
    """Serve these models from a thread of its own."""
    deployments = FakeDeployments(folder, kinds, capacity_gib)
    names = names or {}  # shown in place of the keys of kinds
    of_models = {} if config is None else config.models
    servables = [
        Servable(
            name=names.get(n, n), ref=n, source="disk", size_bytes=G, config=of_models.get(n, ModelConfig())
        )
        for n in kinds
    ]
    ready: Future[Gateway] = Future()
    ends: list[Callable[[], None]] = []

    async def main() -> None:
        catalogue = Catalogue(servables, config or GatewayConfig())
        engines = Engines()
        keeper = Keeper(deployments, catalogue, KeptOptions(policy=policy or Policy(slack_bytes=0)))  # type: ignore[arg-type]

        async def refresh() -> None:
            keeper.replace_catalogue(
                Catalogue([*servables, Servable(name="new", ref="new", source="disk")], catalogue.config)
            )

        fallback = Fallback(keeper, Spending(folder / "state" / "spending.json"))
        app = App(
            keeper, Proxy(keeper, engines, fallback), KeyRing(folder / "keys.json"), Disk(fetch=fetch_new, refresh=refresh),
            AppOptions(doors=doors or Doors(needs_key=False), **options),
        )  # fmt: skip
        listening = server.open_port("127.0.0.1", free_port("127.0.0.1"))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        await keeper.begin()
        watching = asyncio.create_task(Watch(keeper, engines, silence).go_on())
        loop = asyncio.get_running_loop()

        def begun(end: Callable[[], None]) -> None:
            ends.append(lambda: loop.call_soon_threadsafe(end))
            ready.set_result(Gateway(url, deployments, keeper, loop, app))

        with listening:
            try:
                await server.serve(app, listening, tls=None, on_ready=begun)
            finally:
                watching.cancel()
                engines.close()
                await fallback.close()
                await keeper.close()
                await asyncio.sleep(0)

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(main())
            except BaseException as error:
                if not ready.done():
                    ready.set_exception(error)
                raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        gateway = ready.result(PATIENCE_S)
        until_answers(f"{gateway.url}/health")
        yield gateway
    finally:
        for end in ends:
            end()
        thread.join(PATIENCE_S)
        with deployments.lock:
            deployments.closed = True
        for process, _ in deployments.processes.values():
            process.kill()
            process.wait()
