"""Bring a model here for Ollama's pull, and say how far it is: the one request that may begin a download."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from launcher.errors import Interrupted, LauncherError
from launcher.gateway.client import Client, Refusing
from launcher.gateway.ollama_words import json_line, pull_line, ref_of
from launcher.gateway.replies import Problem, json_reply
from launcher.gateway.threads import in_thread
from launcher.progress import OnProgress, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """How models come to this disk, and are found there."""

    fetch: Callable[[str, OnProgress], None]  # blocks; raises LauncherError
    refresh: Callable[[], Awaitable[None]]


async def pull(client: Client, disk: Disk, name: str, *, streams: bool) -> None:
    """Fetch the model, and answer line by line, or once. Raises Refusing, BadRequest."""
    ref = ref_of(name)
    if not streams:
        try:
            async for _ in _fetched(client, disk, ref):
                pass
        except LauncherError as error:
            problem = Problem(status=400, code=error.code, sentence=error.message, should_retry=False)
            raise Refusing(problem) from error
        await client.reply(json_reply({"status": "success"}))
        return
    await client.begin(200, [(b"content-type", b"application/x-ndjson")])
    await client.write(json_line({"status": "pulling manifest"}))
    told = ""
    try:
        async for step in _fetched(client, disk, ref):
            line = pull_line(step)
            if line and line != told:
                told = line
                await client.write(line.encode() + b"\n")
    except LauncherError as error:
        await client.write(json_line({"error": error.message}))
    else:
        await client.write(json_line({"status": "success"}))
    await client.finish()


async def _fetched(client: Client, disk: Disk, ref: str) -> AsyncIterator[Step]:
    """Fetch in a thread, and yield its steps. Raises LauncherError."""
    steps: asyncio.Queue[Step | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(step: Step) -> None:
        if client.gone.is_set():  # what has arrived is kept
            raise Interrupted("nobody waits for the download any more")
        loop.call_soon_threadsafe(steps.put_nowait, step)

    def work() -> None:
        try:
            disk.fetch(ref, tell)
        finally:
            loop.call_soon_threadsafe(steps.put_nowait, None)

    fetching = asyncio.ensure_future(in_thread(work))
    while (step := await steps.get()) is not None:
        yield step
    await fetching
    await disk.refresh()
