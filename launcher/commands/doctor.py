"""Find what is wrong with this machine or install, and the fix. No check leaves anything changed.

A finding is `wrong` (something will fail, or is lost without need) or a `note` (worth knowing). Only what is
wrong makes `launcher doctor` fail.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.commands.engine import engine_or_none
from launcher.commands.here import here_with
from launcher.commands.probe import look_once
from launcher.deployment import claims
from launcher.deployment.install.systemd import has_bus, lingers
from launcher.deployment.ports import free_port
from launcher.deployment.record import UnreadableRecord
from launcher.deployment.records import check_disk_space, read_all
from launcher.deployment.status import DeploymentState, ask_status
from launcher.deployment.supervisor.protect import left_groups
from launcher.engine.ask import ask_engine
from launcher.engine.environment import Why, config_files, engine_env, why_dropped
from launcher.engine.find import Engine, backends_in
from launcher.engine.pinned import LLAMA_CPP
from launcher.errors import LauncherError, TryAgain, UsageError
from launcher.machine.machine import Backend, Machine
from launcher.machine.probe.device_list import parse_device_list
from launcher.machine.probe.probe import machine_of
from launcher.system.owned_files import opened_folder, user_name
from launcher.system.settings import Settings
from launcher.units import GIB, MIB, format_bytes

# a model of 40 GB takes over three minutes to load below this; a hard disk reads 100 to 250 MB/s
SLOW_DISK_BYTES_PER_S = 200 * MIB
_DISK_SAMPLE_BYTES = 256 * MIB
_DISK_SAMPLE_S = 2.0
_LITTLE_DISK_BYTES = 10 * GIB

_CLAIM = "all its plan may grow to, prompt cache and process included; other plans leave it free"
_STRANGERS_CLAIM = "other plans leave what its processes are seen to hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to know. `fix` is the command or change that mends it, None if nothing needs to be done."""

    check: str
    wrong: bool
    text: str
    fix: str | None = None


def examine(engine_path: Path | None = None) -> tuple[Finding, ...]:
    """Run every check; return the findings, what is wrong first."""
    findings: list[Finding] = []

    def broken(error: UsageError) -> None:
        findings.append(Finding(check="config", wrong=True, text=error.message, fix=error.hint))

    here = here_with(broken=broken)
    settings, look = here.settings, look_once(here)
    machine = machine_of(look(), None)
    engine: Engine | None = None
    try:
        engine = engine_or_none(here, engine_path, look)
    except LauncherError as error:
        findings.append(Finding(check="engine", wrong=True, text=error.message, fix=error.hint))
    engine_is_known = not findings or findings[-1].check != "engine"
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: check_engine(engine, machine) if engine_is_known else iter(()),
        lambda: check_kernel(Path("/proc/sys"), machine),
        lambda: check_limits(machine),
        lambda: check_state(settings),
        lambda: check_disk(settings, machine),
        check_systemd,
        check_ports,
        check_token,
        check_silent_settings,
    )
    for check in checks:
        findings += check()
    return tuple(sorted(findings, key=lambda finding: not finding.wrong))


def check_engine(engine: Engine | None, machine: Machine) -> Iterator[Finding]:
    """Check that there is an engine, that it runs, is of the pinned build and uses every GPU."""
    gpus = [device for device in machine.devices if device.backend is not Backend.CPU]
    if engine is None:
        yield Finding(
            check="engine", wrong=True, text="there is no llama-server here", fix="launcher engine install"
        )
        return
    try:
        said = ask_engine(engine.path, "--list-devices")
    except LauncherError as error:
        yield Finding(
            check="engine", wrong=True, text=error.message, fix=error.hint or "launcher engine build"
        )
        return
    used = parse_device_list(said)
    names = ", ".join(dict.fromkeys(device.name for device in gpus))
    backends = set(backends_in(engine.folder)) - {"cpu", "rpc"}
    if gpus and not used:
        why = "it is built for the CPU alone" if not backends else "its driver does not work with it"
        fix = (
            "launcher engine install" if not backends else "update the GPU's driver, or launcher engine build"
        )
        text = f"THE GPU IS NOT USED: {names} is here, and {engine.path} lists no device: {why}"
        yield Finding(check="gpu", wrong=True, text=text, fix=fix)
    elif len(used) < len(gpus):
        unused = f"{len(gpus) - len(used)} OF {len(gpus)} GPUS ARE NOT USED"
        text = f"{unused}: {engine.path} lists {len(used)} of {names}"
        yield Finding(check="gpu", wrong=True, text=text, fix="look at CUDA_VISIBLE_DEVICES and the driver")
    if engine.build is not None and engine.is_built_here and engine.build.commit != LLAMA_CPP.commit:
        text = f"the engine is llama.cpp {engine.build.commit}; this launcher plans with {LLAMA_CPP.commit}"
        yield Finding(check="engine age", wrong=True, text=text, fix="launcher engine build")


def check_kernel(sys_folder: Path, machine: Machine) -> Iterator[Finding]:
    """Check kernel settings that hurt large models (Linux only: elsewhere the files are not there)."""
    if _number(sys_folder / "vm/overcommit_memory") == 2:
        text = (
            "the kernel refuses memory beyond its commit limit (vm.overcommit_memory=2): large mappings fail"
        )
        yield Finding(check="overcommit", wrong=True, text=text, fix="sysctl vm.overcommit_memory=0")
    if len(machine.nodes) > 1 and _number(sys_folder / "kernel/numa_balancing") == 1:
        n_nodes = len(machine.nodes)
        text = f"automatic NUMA balancing moves pages between {n_nodes} nodes while tokens are computed"
        yield Finding(check="numa", wrong=True, text=text, fix="sysctl kernel.numa_balancing=0")


def check_limits(machine: Machine) -> Iterator[Finding]:
    """Check what this process may take of the machine."""
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if locked != resource.RLIM_INFINITY and locked < machine.ram_total_bytes:
        text = (
            f"at most {format_bytes(locked)} may be locked in memory: --mlock, and RPC over RDMA, will fail"
        )
        yield Finding(
            check="memlock", wrong=False, text=text, fix="ulimit -l unlimited (as root), if you need it"
        )
    limit = machine.ram_limit_bytes
    if limit is not None and limit < machine.ram_total_bytes:
        text = f"a cgroup limits memory to {format_bytes(limit)} of {format_bytes(machine.ram_total_bytes)}"
        yield Finding(check="cgroup", wrong=False, text=f"{text}; plans respect it")
    if machine.cpu.quota is not None and machine.cpu.quota < machine.cpu.affinity:
        text = (
            f"a cgroup limits this to {machine.cpu.quota:g} of {machine.cpu.affinity} CPUs; plans respect it"
        )
        yield Finding(check="cgroup", wrong=False, text=text)


def check_state(settings: Settings) -> Iterator[Finding]:
    """Check the folder of records, deployments that no longer run, and claims."""
    if settings.deployments_dir.is_dir():
        try:
            check_disk_space(settings.deployments_dir)
        except TryAgain as error:
            yield Finding(check="state", wrong=True, text=error.message, fix=error.hint)
    for entry in read_all(settings.deployments_dir):
        stop = f"launcher stop {entry.name}"
        if isinstance(entry, UnreadableRecord):
            yield Finding(check="state", wrong=True, text=f"{entry.path}: {entry.problem}", fix=stop)
            continue
        status = ask_status(entry).status
        if status.state in {DeploymentState.GONE, DeploymentState.FAILED}:
            text = f"{entry.name} is {status.state}: {status.detail}"
            yield Finding(
                check="state", wrong=True, text=text, fix=f"{stop}, or launcher restart {entry.name}"
            )
        elif status.state is DeploymentState.DEGRADED:
            text = f"{entry.name} does not answer: {status.detail}"
            yield Finding(check="state", wrong=True, text=text, fix=f"launcher restart {entry.name}")
    if left := left_groups():
        text = f"supervisors that were killed left {len(left)} empty memory groups ({left[0]})"
        yield Finding(check="state", wrong=False, text=text, fix="launcher ps removes them")
    yield from _check_claims(settings)


def _check_claims(settings: Settings) -> Iterator[Finding]:
    for claim in claims.read_claims(settings.claims_dir):
        promised = ", ".join(f"{format_bytes(size)} of {row}" for row, size in claim.rows.items())
        text = f"{claim.name} was promised {promised}: {_CLAIM}"
        if not claim.is_trusted:
            text = f"{user_name(claim.owner)} claims {promised} for {claim.name}: {_STRANGERS_CLAIM}"
        yield Finding(check="claims", wrong=False, text=text)
    try:
        with opened_folder(settings.claims_dir):
            pass
    except FileNotFoundError:
        pass
    except OSError as error:
        text = f"memory cannot be reserved in {settings.claims_dir}: {error.strerror}"
        fix = f"ls -ld {settings.claims_dir}, and rm it, as its owner or as root"
        yield Finding(check="claims", wrong=True, text=text, fix=fix)


def check_disk(settings: Settings, machine: Machine) -> Iterator[Finding]:
    """Check the disk space for models, and how fast they are read."""
    store = machine.store
    if store is not None and store.free_bytes < _LITTLE_DISK_BYTES:
        text = f"{format_bytes(store.free_bytes)} are free on {store.path}"
        yield Finding(check="disk", wrong=False, text=text, fix="remove models that are not needed")
    speed = disk_speed(settings.models_dir)
    if speed is not None and speed < SLOW_DISK_BYTES_PER_S:
        text = f"models are read at {format_bytes(int(speed))} a second from {settings.models_dir}"
        yield Finding(check="disk", wrong=False, text=text, fix="a faster disk for the model store")


def disk_speed(folder: Path) -> float | None:
    """Measure bytes a second of the largest model file, past the page cache; None without one."""
    files = [path for path in folder.rglob("*.gguf") if path.is_file()] if folder.is_dir() else []
    largest = max(files, key=lambda path: path.stat().st_size, default=None)
    if largest is None or not hasattr(os, "posix_fadvise"):
        return None
    with largest.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began, done = time.monotonic(), 0
        while done < _DISK_SAMPLE_BYTES and time.monotonic() - began < _DISK_SAMPLE_S:
            block = file.read(8 * MIB)
            if not block:
                break
            done += len(block)
        elapsed = time.monotonic() - began
    return done / elapsed if done >= 8 * MIB and elapsed > 0 else None


def check_systemd() -> Iterator[Finding]:
    """Check whether a systemd that could keep deployments up outlives the session."""
    if has_bus(system=False) and not lingers():
        text = "systemd ends with your last session here: deployments are kept up without it"
        yield Finding(check="systemd", wrong=False, text=text, fix="loginctl enable-linger")


def check_ports() -> Iterator[Finding]:
    """Check that a server can listen on loopback."""
    try:
        free_port("127.0.0.1")
    except (LauncherError, OSError) as error:
        text = f"no port can be opened on 127.0.0.1: {error}"
        yield Finding(
            check="ports", wrong=True, text=text, fix="look at the firewall or sandbox this runs in"
        )


def check_token() -> Iterator[Finding]:
    """Check the Hub's token, which only gated models need."""
    import huggingface_hub  # noqa: PLC0415  heavy, and only this check asks it

    token = huggingface_hub.get_token()
    if token is None:
        text = "no Hugging Face token: gated models cannot be downloaded"
        yield Finding(
            check="hub", wrong=False, text=text, fix="HF_TOKEN=…, or hf auth login, if you need one"
        )
    elif not token.startswith("hf_"):
        text = "the Hugging Face token does not begin with hf_: the Hub will refuse it"
        yield Finding(check="hub", wrong=True, text=text, fix="hf auth login")


def check_silent_settings() -> Iterator[Finding]:
    """Check for files and variables that change llama-server without being typed."""
    env, _ = engine_env(os.environ)
    dropped = sorted(name for name, value in os.environ.items() if why_dropped(name, value) is Why.SILENT)
    for path in config_files(env):
        text = f"{path} is there, and llama-server takes from it what no command sets"
        yield Finding(check="config", wrong=False, text=text, fix=f"remove {path}")
    if dropped:
        text = f"{', '.join(dropped)} would change llama-server silently; launcher leaves them out"
        yield Finding(check="environment", wrong=False, text=text, fix=f"unset {' '.join(dropped)}")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
