"""A gateway in a process of its own, three small real models, and room for two."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai

from launcher.deployment.ports import free_port
from launcher.deployment.record import Deployment
from launcher.deployment.records import read_all
from launcher.deployment.takedown import take_down
from launcher.engine.find import Engine
from launcher.system.settings import read_settings

MODELS = ("a", "b", "c")
BUDGET = 900 << 20  # each takes 310 MiB: two fit, three do not
PATIENCE_S = 240.0
_FIRST_LINE = "llama_server: initializing"  # of every start, in the engine's log

CONFIG = """
[gateway]
max-ram = "{max_ram}"
[gateway.aliases]
"gpt-4o" = "a"
"""
A_MODEL = """
[models.{name}]
ref = "{ref}"
context = "512"
slots = 2
flags = ["--cache-ram", "0", "--no-warmup"{flags}]
"""


class Served:
    """A gateway in a process of its own."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.env = {**os.environ, "LAUNCHER_ENGINE": str(engine.path)}
        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "gateway.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "launcher", "serve", "--port", str(self.port), "--progress", "none"],
                env=self.env,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def status(self) -> Any:
        with urllib.request.urlopen(f"{self.url}/gateway/status", timeout=60) as answer:
            return json.load(answer)

    def states(self) -> dict[str, str]:
        return {model["name"]: model["state"] for model in self.status()["models"]}

    def unload_all(self) -> None:
        """Unload every model, and wait until their memory is back."""
        deadline = time.monotonic() + PATIENCE_S
        while self.status()["memory"]["ram"]["held_bytes"] and time.monotonic() < deadline:
            for name, state in self.states().items():
                if state == "ready":
                    act = urllib.request.Request(
                        f"{self.url}/gateway/models/{name}/unload", b"", method="POST"
                    )
                    with urllib.request.urlopen(act, timeout=60):
                        pass
            time.sleep(0.5)

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="x", max_retries=0, timeout=PATIENCE_S * 2)


@contextlib.contextmanager
def serving(
    engine: Engine,
    model: Path,
    folder: Path,
    flags: dict[str, str] | None = None,
    more: str = "",
    max_ram: int = BUDGET,
) -> Iterator[Served]:
    """Serve three models of one file; `flags` are further ones of a model, as they stand in config.toml.

    `more` is put at its end.
    """
    settings = read_settings()
    settings.config_file.parent.mkdir(parents=True)
    models = (A_MODEL.format(name=name, ref=model, flags=(flags or {}).get(name, "")) for name in MODELS)
    settings.config_file.write_text(CONFIG.format(max_ram=f"{max_ram >> 20}M") + "".join(models) + more)
    gateway = Served(engine, folder)
    try:
        gateway.start()
        yield gateway
    finally:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.end()
        for entry in read_all(settings.deployments_dir):
            take_down(settings.deployments_dir, entry.name, grace_s=0.0)


def running() -> dict[str, Deployment]:
    entries = read_all(read_settings().deployments_dir)
    return {entry.name: entry for entry in entries if isinstance(entry, Deployment)}


def logs_of_running() -> list[str]:
    """Return what the engines that run have logged."""
    return [_log_of(entry.log_path) for entry in running().values()]


def _log_of(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:  # it has just been unloaded
        return ""


def allocated_bytes(log: str, place: str = "") -> int:
    """What an engine's own log says it took when it was started last, in all or on the device `place`."""
    sizes = re.findall(rf"{place}.* buffer size = +([\d.]+) MiB", log.rpartition(_FIRST_LINE)[2])
    return int(sum(map(float, sizes)) * (1 << 20))
