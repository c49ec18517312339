"""What the gateway adds to a stream: time to the first byte, time between pieces, CPU, memory; beside others.

scripts/bench gateway [--litellm PROGRAM] [--minutes N]

The first byte is that of streams which all begin at once, and of one more beside as many that run.
The engine is a fast fake: it sends server-sent events as an engine does, at a given rate, and stamps each with the
time it was sent. Everything is a process of its own on this machine. llama-server's own router is measured with the
same engine: it starts what lies at its own path, and that is the fake once the router runs. LiteLLM's proxy is
measured where it is in the tests' cache or its program is named. With --minutes the gateway passes streams on for so
long, and its memory is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles

import httptools
import uvloop

from launcher.deployment.ports import free_port
from launcher.engine.find import find_engine
from launcher.errors import LauncherError
from launcher.gateway import server
from launcher.gateway.app import App, AppOptions
from launcher.gateway.catalogue import Catalogue, Servable
from launcher.gateway.config import GatewayConfig
from launcher.gateway.deployments import Memory, Running
from launcher.gateway.engine_http import Address, EngineGone, Engines
from launcher.gateway.guard import Doors
from launcher.gateway.keeper import Keeper, KeptOptions
from launcher.gateway.keys import KeyRing
from launcher.gateway.ollama_pull import Disk
from launcher.gateway.proxy import Proxy
from launcher.machine.machine import Backend
from launcher.system.settings import read_settings
from scripts.processes import cpu_s, resident_mib, running, wait_until_open
from tests.litellm_proxy import find_litellm

RATE, CHUNKS = 50, 150
Rivals = Mapping[str, tuple[Address, int]]  # where each answers, and its process


class Engine(asyncio.Protocol):
    """Answers POST /v1/… with N events at a rate, whatever the body; both are in its query."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, _value: bytes) -> None:
        if name.lower() == b"expect":  # the router waits for a second for this
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, block: bytes) -> None:
        self.body += block

    def on_message_complete(self) -> None:
        body, self.body = self.body, b""
        if not body:
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            return
        asked = json.loads(body)  # in fields that everybody passes on
        asyncio.get_running_loop().create_task(self.stream(asked["max_tokens"], asked["seed"]))

    async def stream(self, n: int, rate: float) -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        due = time.perf_counter()
        for _ in range(n):
            self.send(event({"content": f"{time.perf_counter():.7f}"}, None))
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        self.send(event({}, "stop"))
        self.send(b"data: [DONE]\n\n")
        self.transport.write(b"0\r\n\r\n")

    def send(self, data: bytes) -> None:
        self.transport.write(b"%x\r\n%s\r\n" % (len(data), data))


def event(delta: dict, finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    document = {
        "id": "x" * 32,
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }
    return b"data: " + json.dumps(document).encode() + b"\n\n"


async def run_engine(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", port, backlog=512)
    if "LLAMA_SERVER_ROUTER_PORT" in os.environ:
        print('\ncmd_child_to_router:state:{"state":"ready","payload":{"id":"m"}}', flush=True)
    await server.serve_forever()


async def run_gateway(port: int, engine_port: int) -> None:
    class Deployments:
        def find_all(self) -> tuple[Running, ...]:
            address = Address("127.0.0.1", engine_port)
            return (
                Running(
                    name="m", model_id="m", address=address, secret="s", is_ours=False, is_ready=True, needs={"ram": 1},
                    slots=256, ctx_size=None, size_bytes=1,
                ),
            )  # fmt: skip

        def read_memory(self) -> Memory:
            return Memory(free={"ram": 1 << 30}, beside={"m": {"ram": 1}})

    keeper = Keeper(
        Deployments(), Catalogue([Servable(name="m", ref="m", source="disk")], GatewayConfig()), KeptOptions()
    )
    app = App(
        keeper,
        Proxy(keeper, Engines()),
        KeyRing(Path("/nonexistent")),
        Disk(fetch=lambda _ref, _tell: None, refresh=lambda: asyncio.sleep(0)),
        AppOptions(doors=Doors(needs_key=False)),
    )
    await keeper.begin()
    gc.freeze()  # as `launcher serve` does
    with server.open_port("127.0.0.1", port) as listening:
        await server.serve(app, listening, tls=None, on_ready=lambda _end: None)


async def one(engines: Engines, address: Address, n: int, rate: float) -> tuple[float, list[float]]:
    try:
        return await ask(engines, address, n, rate)
    except EngineGone:  # it has just closed a kept connection
        engines.forget(address)
        return await ask(engines, address, n, rate)


async def ask(engines: Engines, address: Address, n: int, rate: float) -> tuple[float, list[float]]:
    """Return the time to the first byte, and for every event how long it was under way."""
    message = {"role": "user", "content": "x" * 2000}
    options = {"max_tokens": n, "seed": int(rate), "stream": True}
    asked = json.dumps({"model": "m", "messages": [message], **options}).encode()

    async def body() -> object:
        yield asked

    began, first, late, rest = time.perf_counter(), 0.0, [], b""
    async with engines.connection(address) as connection:
        headers = [
            (b"host", b"127.0.0.1"),
            (b"content-length", b"%d" % len(asked)),
            (b"content-type", b"application/json"),
        ]
        await connection.send("POST", b"/v1/chat/completions", headers, body())
        while block := await connection.read():
            now = time.perf_counter()
            first = first or now - began
            *events, rest = (rest + block).split(b"\n\n")
            late += [now - at for each in events if (at := sent_at(each)) is not None]
    return first, late


def sent_at(event: bytes) -> float | None:
    if not event.startswith(b"data: {"):
        return None
    choices = json.loads(event[6:]).get("choices")
    content = choices[0]["delta"].get("content") if choices else None
    return float(content) if content else None


def line(values: Sequence[float]) -> str:
    cuts = quantiles([value * 1e3 for value in values] * 2, n=100)
    return f"{cuts[49]:8.2f} {cuts[98]:8.2f}"


async def first_bytes(rivals: Rivals, streams: int, n: int = 320) -> dict[str, list[float]]:
    """Ask for two pieces on so many streams, each rival in turn; the first round only opens connections."""
    engines = {name: Engines() for name in rivals}
    found: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(n // streams + 1):
        for name, (address, _) in rivals.items():
            asked = await asyncio.gather(*(one(engines[name], address, 2, 1000) for _ in range(streams)))
            found[name] += [first for first, _ in asked] if number else []
    for each in engines.values():
        each.close()
    return found


async def first_bytes_beside(address: Address, streams: int, n: int = 150) -> list[float]:
    """Ask for one stream after the other while so many run."""
    engines = Engines()
    running_streams = [asyncio.create_task(one(engines, address, 100_000, RATE)) for _ in range(streams)]
    await asyncio.sleep(0.5)
    found = []
    for _ in range(n):
        found.append((await one(engines, address, 2, 1000))[0])
        await asyncio.sleep(0.013)
    for task in running_streams:
        task.cancel()
    await asyncio.gather(*running_streams, return_exceptions=True)
    engines.close()
    return found


async def measure(address: Address, streams: int, pid: int, n: int = CHUNKS, rate: float = RATE) -> str:
    engines = Engines()
    before, began = cpu_s(pid), time.perf_counter()
    results = await asyncio.gather(*(one(engines, address, n, rate) for _ in range(streams)))
    wall, cpu = time.perf_counter() - began, cpu_s(pid) - before
    engines.close()

    late = [value for _, values in results for value in values]
    return (
        f"{line(late)}   {cpu / (streams * n) * 1e6:7.1f} us {cpu / wall * 100:5.0f} % "
        f"{resident_mib(pid):6.0f} MiB"
    )


async def compare(rivals: Rivals) -> None:
    print(f"{'':22} first byte, ms    of one more, ms   a piece under way, ms  CPU a piece   core    memory")
    print(f"{'':22} {'p50':>8} {'p99':>8} {'p50':>8} {'p99':>8} {'p50':>8} {'p99':>8}")
    for streams in (1, 16, 64):
        first = await first_bytes(rivals, streams)
        for name, (address, pid) in rivals.items():
            beside = await first_bytes_beside(address, streams)
            rest = await measure(address, streams, pid)
            print(f"{streams:3} streams {name:10} {line(first[name])} {line(beside)} {rest}", flush=True)
    print("64 streams at 200 pieces a second:")
    address, pid = rivals["gateway"]
    print(f"{64:3} streams {'gateway':10} {await measure(address, 64, pid, 1000, 200)}", flush=True)


async def stay(gateway: tuple[Address, int], minutes: float) -> None:
    """Pass streams on, some of which are left in the middle, and print the gateway's memory every minute."""
    (address, pid), engines = gateway, Engines()
    told, n, ends = 0.0, 0, time.monotonic() + minutes * 60

    async def leave() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await one(Engines(), address, 100, 50)

    while time.monotonic() < ends:
        await asyncio.gather(*(one(engines, address, 40, 100) for _ in range(16)), leave(), leave())
        n += 18
        if time.monotonic() - told >= 60:
            told = time.monotonic()
            print(f"  {n:6} streams  {resident_mib(pid):6.1f} MiB", flush=True)


def started(rounds: int = 5) -> str:
    """Start `launcher serve` again and again, until it answers."""
    walls, cpus = [], []
    for _ in range(rounds):
        port = free_port("127.0.0.1")
        with tempfile.TemporaryDirectory() as home:
            began = time.perf_counter()
            command = [sys.executable, "-m", "launcher", "serve", "--port", str(port), "--progress", "none"]
            # modules are compiled once, as those of an installed launcher are
            env = {"LAUNCHER_HOME": home, "PYTHONDONTWRITEBYTECODE": ""}
            with running(command, env=env) as process:
                wait_until_open(port, process)
                walls.append(time.perf_counter() - began)
                cpus.append(cpu_s(process.pid))
    return f"`launcher serve` answers after {median(walls):.2f} s ({median(cpus):.2f} s of CPU), median of {rounds}"


@contextlib.contextmanager
def router(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run llama-server as a router whose model is the fake engine. Raises LauncherError without one."""
    found = find_engine(None, None, read_settings().engines_dir, backend=lambda: Backend.CPU)
    program = folder / "llama-server"
    shutil.copy(found.path, program)
    (folder / "models").mkdir()
    (folder / "models" / "m.gguf").write_bytes(b"GGUF" + bytes(1020))
    command = [str(program), "--models-dir", str(folder / "models"), "--port", str(port)]
    with running(command, env={"LD_LIBRARY_PATH": str(found.folder)}) as process:
        wait_until_open(port, process)
        script = folder / "script"
        bench = f"{shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__).with_name('bench')))}"
        # it is started with --host 127.0.0.1 --port PORT …
        script.write_text(f'#!/bin/sh\nexec {bench} gateway engine "$4"\n')
        script.chmod(0o755)
        script.replace(program)
        yield process


@contextlib.contextmanager
def litellm(program: Path, folder: Path, port: int, engine_port: int) -> Iterator[subprocess.Popen[bytes]]:
    config = folder / "litellm.json"
    params = {"model": "openai/m", "api_base": f"http://127.0.0.1:{engine_port}/v1", "api_key": "x"}
    config.write_text(json.dumps({"model_list": [{"model_name": "m", "litellm_params": params}]}))
    where = ("--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    env = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    with running([str(program), "--config", str(config), *where], env=env) as process:
        wait_until_open(port, process, limit_s=300)
        yield process


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["engine"]:
        uvloop.run(run_engine(int(arguments[1])))
        return 0
    if arguments[:1] == ["gateway"]:
        uvloop.run(run_gateway(int(arguments[1]), int(arguments[2])))
        return 0
    parser = argparse.ArgumentParser(prog="scripts/bench gateway")
    parser.add_argument("--litellm", type=Path, metavar="PROGRAM")
    parser.add_argument("--minutes", type=float, default=0.0)
    options = parser.parse_args(arguments)
    print(__doc__)
    print(started())
    ports = {name: free_port("127.0.0.1") for name in ("direct", "gateway", "router", "litellm")}
    again = [sys.executable, str(Path(__file__).with_name("bench")), "gateway"]
    processes: dict[str, subprocess.Popen[bytes]] = {}
    with contextlib.ExitStack() as programs:
        folder = Path(programs.enter_context(tempfile.TemporaryDirectory()))
        for name, *asked in (("direct", "engine"), ("gateway", "gateway", str(ports["direct"]))):
            command = [*again, asked[0], str(ports[name]), *asked[1:]]
            processes[name] = programs.enter_context(running(command))
            wait_until_open(ports[name], processes[name])
        try:
            processes["router"] = programs.enter_context(router(folder, ports["router"]))
        except LauncherError as error:
            print(f"router   skipped: {error.message}")
        program = options.litellm or find_litellm(read_settings().cache_dir, os.environ)
        if program is not None:
            start = litellm(program, folder, ports["litellm"], ports["direct"])
            processes["litellm"] = programs.enter_context(start)
        else:
            print("litellm  skipped: python -m tests.litellm_proxy installs it")
        rivals = {name: (Address("127.0.0.1", ports[name]), each.pid) for name, each in processes.items()}
        uvloop.run(compare(rivals))
        if options.minutes:
            uvloop.run(stay(rivals["gateway"], options.minutes))
    return 0
