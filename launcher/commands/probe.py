"""The machine that is planned for: this one, a saved one, or one made up of a few words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher.engine.find import Engine, ask_engine
from launcher.errors import EngineFailed, NotFound, UsageError
from launcher.machine.from_toml import parse_machine
from launcher.machine.from_words import adhoc_machine
from launcher.machine.machine import Machine
from launcher.machine.probe.device_list import parse_device_list
from launcher.machine.probe.probe import probe_machine
from launcher.machine.to_toml import format_machine
from launcher.models.hub.endpoint import endpoint_in_use
from launcher.system.atomic_files import write_atomically
from launcher.system.settings import Settings, expand_home, profiles_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineChoice:
    """Which machine to plan for: a saved one by name or file, one made up of GPUs and RAM, else this one."""

    name: str | None = None
    gpus: tuple[str, ...] = ()
    ram_bytes: int | None = None


def machine_for(choice: MachineChoice, engine: Engine | None, settings: Settings) -> Machine:
    """The machine to plan for. Raises UsageError for a choice that contradicts itself, NotFound."""
    if choice.name is not None and (choice.gpus or choice.ram_bytes is not None):
        raise UsageError(
            f"--machine {choice.name} and --gpu or --ram name two machines", hint="leave one of them out"
        )
    if choice.name is not None:
        return _saved(choice.name, settings)
    if choice.gpus or choice.ram_bytes is not None:
        if choice.ram_bytes is None:
            raise UsageError("--gpu needs --ram: the host's memory is part of the plan", hint="--ram 64G")
        return adhoc_machine(choice.gpus, choice.ram_bytes)
    return this_machine(engine)


def this_machine(engine: Engine | None) -> Machine:
    """This machine; with an engine, its devices are the engine's own, by llama.cpp's names and order."""
    listed = None
    if engine is not None:
        try:
            listed = parse_device_list(ask_engine(engine.path, "--list-devices"))
        except EngineFailed:
            listed = None  # an engine that cannot list is diagnosed when it is started
    return probe_machine(endpoint_in_use().cache_dir, listed)


def save_machine(machine: Machine, path: Path) -> None:
    """Write the machine as a file that `--machine` takes. Raises UsageError when it cannot be written."""
    try:
        write_atomically(path, format_machine(machine).encode())
        path.chmod(0o644)  # no secret: it is made to be handed on
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint="name another file") from error


def machine_names(settings: Settings) -> tuple[str, ...]:
    """The machines that `--machine` knows by name."""
    return tuple(sorted({file.stem for folder in _folders(settings) for file in folder.glob("*.toml")}))


def _saved(name: str, settings: Settings) -> Machine:
    file = next(
        (path for folder in _folders(settings) if (path := folder / f"{name}.toml").is_file()),
        expand_home(Path(name)),
    )
    try:
        return parse_machine(file.read_text(encoding="utf-8"), name)
    except FileNotFoundError:
        raise NotFound(
            f"no machine is called {name!r}, and there is no such file",
            hint=f"--machine with one of {', '.join(machine_names(settings))}, or a file of launcher probe --save",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"machine file {file} cannot be read: {error}", hint=f"look at {file}") from error


def _folders(settings: Settings) -> tuple[Path, ...]:
    return (settings.own_profiles_dir / "machines", profiles_dir() / "machines")
