"""The machine that is planned for: this one, a saved one, or one described in a few words."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from launcher.commands.here import Here
from launcher.engine.devices import list_devices
from launcher.engine.find import Engine
from launcher.errors import NotFound, TryAgain, UsageError
from launcher.machine.from_toml import parse_machine
from launcher.machine.from_words import Words, adhoc_machine
from launcher.machine.machine import Machine
from launcher.machine.measured import Measured, format_measured, link_key, parse_measured, with_measured
from launcher.machine.probe.measure import (
    measure_attention,
    measure_cores,
    measure_disk,
    measure_links,
    measure_ram,
)
from launcher.machine.probe.probe import Hardware, machine_of, read_hardware
from launcher.machine.to_toml import format_machine
from launcher.plan.placement.numa import cpu_of_node
from launcher.plan.placement.threads import choose_threads
from launcher.system.atomic_files import write_atomically, write_named
from launcher.system.settings import Settings, expand_home, profiles_dir
from launcher.system.small_files import read_small_text

_MOST_NODES = 8  # measured one after the other, 3 s each

Look = Callable[[], Hardware]
"""Reads this machine's hardware, at the first call only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineChoice:
    """Which machine to plan for: a saved one by name or file, one made up of GPUs and RAM, else this one."""

    name: str | None = None
    gpus: tuple[str, ...] = ()
    ram_bytes: int | None = None
    cpu: str | None = None
    sockets: int | None = None
    ram_bandwidth: int | None = None

    @property
    def described(self) -> bool:
        """True for a machine in words."""
        words = (self.ram_bytes, self.cpu, self.sockets, self.ram_bandwidth)
        return bool(self.gpus) or any(word is not None for word in words)


THIS_MACHINE = MachineChoice()


def look_once(here: Here) -> Look:
    """Return a look at this machine that all steps of a command share."""
    return functools.cache(lambda: read_hardware(here.sources.endpoint.cache_dir, here.env))


def probe(
    here: Here, choice: MachineChoice = THIS_MACHINE, engine: Engine | None = None, look: Look | None = None
) -> Machine:
    """Return the machine to plan for.

    Raises UsageError for a choice that contradicts itself, NotFound for an unknown name.
    """
    if choice.name is not None and choice.described:
        raise UsageError(
            f"--machine {choice.name} and --gpu, --ram or --cpu name two machines",
            hint="leave one of them out",
        )
    if choice.name is not None:
        return _saved(choice.name, here.settings)
    if choice.described:
        if choice.ram_bytes is None:
            given = "--gpu" if choice.gpus else "--cpu"
            raise UsageError(f"{given} needs --ram: the host's memory is part of the plan", hint="--ram 64G")
        return adhoc_machine(
            Words(
                gpus=choice.gpus,
                ram_bytes=choice.ram_bytes,
                cpu=choice.cpu,
                sockets=choice.sockets or 1,
                ram_bandwidth=choice.ram_bandwidth,
            )
        )
    # its devices go by the engine's own names and order; one that cannot list is diagnosed when it is started
    listed = list_devices(engine, here.env) if engine is not None else None
    machine = machine_of((look or look_once(here))(), listed)
    return with_measured(machine, _measured(here.settings))


def measure(here: Here, machine: Machine, engine: Engine | None = None) -> Measured:
    """Measure this machine's memory, cores and disk, some seconds, and keep the result. Raises TryAgain."""
    threads, _ = choose_threads(machine.cpu)
    files = [file for file in _models(here) if file.is_file()]
    largest = max(files, key=lambda file: file.stat().st_size, default=None)
    measured = Measured(
        date=datetime.now(UTC).date().isoformat(),
        cpu=machine.cpu.name,
        ram_total_bytes=machine.ram_total_bytes,
        threads=threads,
        ram_rate=measure_ram(threads, machine.ram_available_bytes),
        node_rates=tuple(_nodes(machine)),
        disk_rate=None if largest is None else measure_disk(largest, threads),
        core_rates=() if engine is None else tuple(measure_cores(engine.folder).items()),
        attention_rates=() if engine is None else tuple(measure_attention(engine.folder).items()),
        links=() if engine is None or not machine.devices else _links(machine, measure_links(engine.folder)),
    )
    try:
        write_atomically(here.settings.measured_file, format_measured(measured).encode())
    except OSError as error:
        raise TryAgain(
            f"{here.settings.measured_file} cannot be written: {error.strerror}",
            hint="launcher doctor",
        ) from error
    return measured


def _nodes(machine: Machine) -> Iterator[tuple[str, int]]:
    """Measure each NUMA node alone, where there are several; its cores read its own memory."""
    nodes = [node for node in machine.nodes if node.cpus]
    for node in nodes[:_MOST_NODES] if len(nodes) > 1 else ():
        threads, _ = choose_threads(cpu_of_node(machine, node))
        rate = measure_ram(threads, node.free_bytes or node.total_bytes, node.cpus)
        if rate is not None:
            yield str(node.node), rate


def _links(machine: Machine, rates: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple((link_key(device), rates[device.id]) for device in machine.devices if device.id in rates)


def _models(here: Here) -> Iterator[Path]:
    """Yield model files of the stores, the first thousands of them."""
    folders = (here.sources.endpoint.cache_dir, here.settings.models_dir)
    return islice((file for folder in folders for file in folder.rglob("*.gguf")), 4096)


def _measured(settings: Settings) -> Measured | None:
    try:
        return parse_measured(read_small_text(settings.measured_file))
    except (OSError, UnicodeDecodeError):
        return None


def save_machine(machine: Machine, path: Path) -> None:
    """Write the machine as a file that `--machine` takes. Raises UsageError if it cannot be written."""
    try:
        write_named(path, format_machine(machine).encode())
        path.chmod(0o644)  # no secret: it is made to be handed on
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint="name another file") from error


def machine_names(settings: Settings) -> tuple[str, ...]:
    """List the machines that `--machine` knows by name."""
    return tuple(sorted({file.stem for folder in _folders(settings) for file in folder.glob("*.toml")}))


def _saved(name: str, settings: Settings) -> Machine:
    file = next(
        (path for folder in _folders(settings) if (path := folder / f"{name}.toml").is_file()),
        expand_home(Path(name)),
    )
    try:
        return parse_machine(read_small_text(file, pipes=True), name)
    except FileNotFoundError:
        names = machine_names(settings)
        near = get_close_matches(name.lower(), names, n=1, cutoff=0.5)
        raise NotFound(
            f"no machine is called {name!r}, and there is no such file",
            hint=f"--machine {near[0]}"
            if near
            else f"--machine with one of {', '.join(names)}, or a file of launcher probe --save",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"machine file {file} cannot be read: {error}", hint=f"ls -l {file}") from error


def _folders(settings: Settings) -> tuple[Path, ...]:
    # the user's own first: a name of theirs wins over the shipped one
    return (settings.own_profiles_dir / "machines", profiles_dir() / "machines")
