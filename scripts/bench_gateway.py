"""What the gateway adds to a stream: time to the first byte, time between pieces, CPU, memory; beside the direct way.

The engine is a fast fake: it sends server-sent events as an engine does, at a given rate, and stamps each with the
time it was sent. Gateway, engine and clients are processes of their own on this machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles

import psutil
import uvloop

from launcher.deployment.ports import free_port
from launcher.gateway import server
from launcher.gateway.app import App, AppOptions
from launcher.gateway.catalogue import Catalogue, Servable
from launcher.gateway.config import GatewayConfig
from launcher.gateway.deployments import Memory, Running
from launcher.gateway.engine_http import Address, Engines
from launcher.gateway.guard import Doors
from launcher.gateway.keeper import Keeper, KeptOptions
from launcher.gateway.keys import KeyRing
from launcher.gateway.ollama_pull import Disk
from launcher.gateway.proxy import Proxy

RATE, CHUNKS = 50, 150


class Engine(asyncio.Protocol):
    """Answers POST /v1/… with N events at a rate, whatever the body; both are in its query."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.rest = transport, b""

    def data_received(self, data: bytes) -> None:
        self.rest += data
        head, end, body = self.rest.partition(b"\r\n\r\n")
        lengths = [
            int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        ]
        if not end or len(body) < sum(lengths):
            return
        self.rest = b""
        target = head.split(b" ")[1].decode()
        if target.startswith("/health"):
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            return
        query = dict(pair.split("=") for pair in target.partition("?")[2].split("&"))
        asyncio.get_running_loop().create_task(self.stream(int(query["n"]), float(query["rate"])))

    async def stream(self, n: int, rate: float) -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        due = time.perf_counter()
        for _ in range(n):
            event = {
                "sent": time.perf_counter(),
                "choices": [{"index": 0, "delta": {"content": "token"}}],
                "id": "x" * 32,
            }
            data = b"data: " + json.dumps(event).encode() + b"\n\n"
            self.transport.write(b"%x\r\n%s\r\n" % (len(data), data))
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        self.transport.write(b"0\r\n\r\n")


async def run_engine(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", port, backlog=512)
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
    with server.open_port("127.0.0.1", port) as listening:
        await server.serve(app, listening, tls=None, on_ready=lambda _end: None)


async def one(engines: Engines, address: Address, n: int, rate: float) -> tuple[float, list[float]]:
    """Return the time to the first byte, and for every event how long it was under way."""
    message = {"role": "user", "content": "x" * 2000}
    asked = json.dumps({"model": "m", "stream": True, "messages": [message]}).encode()

    async def body() -> object:
        yield asked

    began, first, late, rest = time.perf_counter(), 0.0, [], b""
    async with engines.connection(address) as connection:
        headers = [
            (b"host", b"127.0.0.1"),
            (b"content-length", b"%d" % len(asked)),
            (b"content-type", b"application/json"),
        ]
        await connection.send("POST", f"/v1/chat/completions?n={n}&rate={rate}".encode(), headers, body())
        while block := await connection.read():
            now = time.perf_counter()
            first = first or now - began
            *events, rest = (rest + block).split(b"\n\n")
            late += [now - json.loads(event[6:])["sent"] for event in events]
    return first, late


async def measure(address: Address, streams: int, pid: int, n: int = CHUNKS, rate: float = RATE) -> str:
    engines, process = Engines(), psutil.Process(pid)
    for _ in range(10):
        await one(engines, address, 2, 1000)
    alone = [await one(engines, address, 2, 1000) for _ in range(200)] if streams == 1 else []
    before, began = sum(process.cpu_times()[:2]), time.perf_counter()
    results = await asyncio.gather(*(one(engines, address, n, rate) for _ in range(streams)))
    wall, cpu = time.perf_counter() - began, sum(process.cpu_times()[:2]) - before
    engines.close()

    def line(values: Sequence[float]) -> str:
        cuts = quantiles([value * 1e3 for value in values] * 2, n=100)
        return f"{cuts[49]:8.2f} {cuts[98]:8.2f}"

    late = [value for _, values in results for value in values]
    return (
        f"{line([first for first, _ in alone or results])} {line(late)}   {cpu / (streams * n) * 1e6:7.1f} us {cpu / wall * 100:5.0f} % "
        f"{process.memory_info().rss / (1 << 20):6.0f} MiB"
    )


async def compare(engine: tuple[Address, int], gateway: tuple[Address, int]) -> None:
    print(f"{'':22} first byte, ms     a piece under way, ms  CPU a piece   core    memory")
    print(f"{'':22} {'p50':>8} {'p99':>8} {'p50':>8} {'p99':>8}")
    for streams in (1, 16, 64):
        for name, (address, pid) in {"direct": engine, "gateway": gateway}.items():
            print(f"{streams:3} streams {name:10} {await measure(address, streams, pid)}", flush=True)
    print("64 streams at 200 pieces a second:")
    print(f"{64:3} streams {'gateway':10} {await measure(gateway[0], 64, gateway[1], 1000, 200)}")


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["engine"]:
        uvloop.run(run_engine(int(arguments[1])))
    elif arguments[:1] == ["gateway"]:
        uvloop.run(run_gateway(int(arguments[1]), int(arguments[2])))
    else:
        print(__doc__)
        ports = free_port("127.0.0.1"), free_port("127.0.0.1")
        again = [sys.executable, str(Path(__file__).with_name("bench")), "gateway"]
        began = time.perf_counter()
        started = [
            subprocess.Popen([*again, "engine", str(ports[0])], env=os.environ),
            subprocess.Popen([*again, "gateway", str(ports[1]), str(ports[0])], env=os.environ),
        ]
        try:
            uvloop.run(until_open(ports))
            print(f"both answer after {time.perf_counter() - began:.2f} s")
            engine, gateway = (
                (Address("127.0.0.1", port), process.pid)
                for port, process in zip(ports, started, strict=True)
            )
            uvloop.run(compare(engine, gateway))
        finally:
            for process in started:
                process.terminate()
                process.wait()
    return 0


async def until_open(ports: Sequence[int]) -> None:
    for port in ports:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            break
