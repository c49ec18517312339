"""Choose among several engines: use one, go back, remove one, or take a newer one if it proves itself."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from launcher.commands import engine_build
from launcher.commands.engine import engine_or_none, find
from launcher.commands.engine_install import install
from launcher.commands.engine_pin import pins_of
from launcher.commands.engine_trial import try_engine
from launcher.commands.here import Here
from launcher.deployment.record import Deployment
from launcher.deployment.records import read_all
from launcher.deployment.status import DeploymentState, read_status
from launcher.engine.default import choosing, drop_default, read_default, write_default
from launcher.engine.find import Engine, engine_named, read_engines
from launcher.engine.sources.install import install_lock
from launcher.engine.sources.release import LATEST
from launcher.errors import EngineFailed, LauncherError, NotFound, UsageError
from launcher.progress import remark
from launcher.system.locks import exclusive

AUTOMATIC = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """The engines that are here, and the one that `up` takes now."""

    engines: tuple[Engine, ...]
    used: Engine | None
    is_chosen: bool  # by somebody, and not for this machine


def list_engines(here: Here) -> Listed:
    """List the engines that are here."""
    folder = here.settings.engines_dir
    chosen = read_default(folder)
    used: Engine | None = None
    with contextlib.suppress(UsageError):
        used = engine_or_none(here, None)
    is_chosen = used is not None and chosen is not None and used.folder.name == chosen.name
    return Listed(engines=read_engines(folder), used=used, is_chosen=is_chosen)


def use(here: Here, name: str) -> Engine:
    """Choose the engine that is used from now on; `auto` leaves it to the machine. Raises NotFound."""
    folder = here.settings.engines_dir
    with choosing(folder):
        before = engine_or_none(here, None)
        if name == AUTOMATIC:
            drop_default(folder)
            return find(here, None)
        engine = require(here, name)
        write_default(folder, engine.folder.name, before=_name_of(before, folder))
    return engine


def build(
    here: Here,
    wanted: engine_build.BuildFor,
    source: engine_build.BuildSource = engine_build.PINNED,
) -> tuple[Engine, ...]:
    """Build the pinned engine, or another llama.cpp, for each backend, by default this machine's.

    The last of the pinned ones takes the place of an engine that was chosen.
    """
    built = engine_build.build(here, wanted, source)
    folder = here.settings.engines_dir
    with choosing(folder):
        chosen = read_default(folder)
        if chosen is not None and source.is_pinned:
            write_default(folder, built[-1].folder.name, before=chosen.name)
    return built


def rollback(here: Here) -> Engine:
    """Go back to the engine that was used before. Raises NotFound if none of them is here."""
    folder = here.settings.engines_dir
    with choosing(folder):
        chosen = read_default(folder)
        names = {engine.folder.name for engine in read_engines(folder)}
        for name in reversed(chosen.before if chosen else ()):
            if name in names:
                write_default(folder, name)
                return require(here, name)
    raise NotFound(
        "no engine was used before this one", hint="launcher engine list, launcher engine use NAME"
    )


def remove(here: Here, name: str) -> Engine:
    """Remove an engine. Raises NotFound, UsageError if a deployment runs with it."""
    folder = here.settings.engines_dir
    engine = require(here, name)
    for entry in read_all(here.settings.deployments_dir):
        if isinstance(entry, Deployment) and _runs_with(entry, engine):
            raise UsageError(
                f"{entry.name} runs with {engine.folder.name}", hint=f"launcher stop {entry.name}"
            )
    pinned = pins_of(here, engine)
    if pinned:
        raise UsageError(
            f"{pinned[0].where} wants {engine.folder.name} for {pinned[0].model}",
            hint="take it out of there first: launcher engine list",
        )
    with exclusive(install_lock(folder)), choosing(folder):
        # renamed first: what is half removed is no engine
        gone = folder / f".removed-{engine.folder.name}"
        shutil.rmtree(gone, ignore_errors=True)
        engine.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        chosen = read_default(folder)
        if chosen is not None and chosen.name == engine.folder.name:
            drop_default(folder)
    return engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What `engine update` did."""

    engine: Engine
    before: Engine | None
    sentences: tuple[str, ...]


def update(here: Here, tag: str | None) -> Update:
    """Install a newer engine, try it, and use it from now on; the old one stays.

    Raises EngineFailed if it fails its trial: the old one is still the one in use.
    """
    folder = here.settings.engines_dir
    before = engine_or_none(here, None)
    # chosen first: what is installed and not yet tried is not used, whatever ends this
    name = _name_of(before, folder)
    was_automatic = name is not None and read_default(folder) is None
    if name is not None and was_automatic:
        with choosing(folder):
            write_default(folder, name)
    try:
        installed = install(here, LATEST if tag is None else tag)
    except LauncherError:
        _unchoose(folder, was_automatic=was_automatic)
        raise
    engine = installed.engine
    if before is not None and engine.folder == before.folder:
        _unchoose(folder, was_automatic=was_automatic)
        return Update(engine=engine, before=before, sentences=("it is the newest already",))
    try:
        sentences = try_engine(here, engine)
    except EngineFailed as error:
        kept = f"{before.folder.name} is still used" if before is not None else "it is not used"
        raise EngineFailed(
            f"{engine.folder.name} failed its trial, and {kept}: {error.message}",
            hint=f"launcher engine rm {engine.folder.name}",
        ) from error
    with choosing(folder):
        write_default(folder, engine.folder.name, before=name)
    here.on_progress(remark("update", "deployments that run keep their engine until they are planned anew"))
    return Update(engine=engine, before=before, sentences=(*installed.sentences, *sentences))


def _unchoose(folder: Path, *, was_automatic: bool) -> None:
    """Leave the choice to the machine again where nothing came of an update."""
    if was_automatic:
        with choosing(folder):
            drop_default(folder)


def require(here: Here, name: str) -> Engine:
    """Find an engine by its name, or the beginning of it. Raises NotFound, UsageError."""
    engine = engine_named(here.settings.engines_dir, name)
    if engine is None:
        names = ", ".join(each.folder.name for each in read_engines(here.settings.engines_dir))
        raise NotFound(f"no engine is called {name}: there is {names or 'none'}", hint="launcher engine list")
    return engine


def _name_of(engine: Engine | None, folder: Path) -> str | None:
    return engine.folder.name if engine is not None and engine.folder.parent == folder else None


def _runs_with(entry: Deployment, engine: Engine) -> bool:
    if not Path(entry.engine_path).is_relative_to(engine.folder):
        return False
    wanted = entry.options.engine_pin is not None  # for its next start, too
    return wanted or read_status(entry).state is not DeploymentState.FAILED or entry.unit is not None
