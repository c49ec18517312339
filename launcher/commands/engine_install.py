"""Install an engine that somebody else has built: the one named, or the best that runs here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from launcher.commands.here import Here
from launcher.commands.probe import Look, look_once
from launcher.engine.find import Engine
from launcher.engine.sources.archive import ArchiveSource, UrlSource
from launcher.engine.sources.host import read_host_facts
from launcher.engine.sources.install import install_engine
from launcher.engine.sources.release import ReleaseSource, tag_of
from launcher.engine.sources.releases import HASTY, server_of
from launcher.engine.sources.source import Source
from launcher.engine.sources.wheel import WheelSource
from launcher.errors import EngineFailed, LauncherError, NotFound, TryAgain, UsageError
from launcher.machine.machine import Backend
from launcher.progress import remark
from launcher.system.settings import expand_home
from launcher.units import format_bytes

WHEEL = "wheel"
BUILD = "build"
SOURCES = "nothing (the best for this machine), b12345, latest, build, wheel, an https:// address, an archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """An engine that is here now, and what there is to say about it."""

    engine: Engine
    sentences: tuple[str, ...]


def install(
    here: Here, source: str | None, backend: Backend | None = None, look: Look | None = None
) -> Installed:
    """Install from the named source; without one, from the first that has an engine for this machine.

    Raises what the source raises; of several, the first's.
    """
    look = look or look_once(here)
    if source is not None:
        return _install_from(here, _named(here, source, backend, look))
    first: LauncherError | None = None
    for each in _all(here, backend, look):
        try:
            return _install_from(here, each)
        except (TryAgain, NotFound, EngineFailed) as error:
            first = first or error
            here.on_progress(remark("install", f"{error.message}"))
    if first is None:
        raise EngineFailed("there is no source of engines", hint="launcher engine build")
    first.hint = "launcher engine build makes an engine from the package index's sources"
    raise first


def _install_from(here: Here, source: Source) -> Installed:
    """Install the best offer of a source that runs; each that does not is named."""
    last: EngineFailed | None = None
    for offer in source.find():
        for note in offer.notes:
            here.on_progress(remark("install", f"{note}: {offer.title} is taken"))
        size = format_bytes(offer.size_bytes)
        here.on_progress(remark("install", f"{offer.title}, {size}, built by {offer.made_by}: {offer.file}"))
        try:
            engine = install_engine(source, offer, here.settings.engines_dir, on_progress=here.on_progress)
        except EngineFailed as error:
            last = error
            here.on_progress(remark("install", error.message))
            continue
        return Installed(engine=engine, sentences=source.describe(offer))
    raise last or EngineFailed("the source has no engine", hint="launcher engine build")


def _all(here: Here, backend: Backend | None, look: Look) -> Iterator[Source]:
    facts = read_host_facts(look())
    if not here.sources.endpoint.offline:
        yield ReleaseSource(server=server_of(here.env, HASTY), facts=facts, backend=backend)
    yield WheelSource(facts=facts, backend=backend)


def _named(here: Here, source: str, backend: Backend | None, look: Look) -> Source:
    if source == WHEEL:
        return WheelSource(facts=read_host_facts(look()), backend=backend)
    tag = tag_of(source)
    if tag is not None:
        facts = read_host_facts(look())
        return ReleaseSource(server=server_of(here.env), facts=facts, tag=tag, backend=backend)
    if urlsplit(source).scheme.lower() in {"http", "https"}:
        return UrlSource(url=source)
    path = expand_home(Path(source))
    if path.is_file():
        return ArchiveSource(path=path)
    raise UsageError(f"{source!r} names no engine: no such archive, tag or word", hint=f"one of: {SOURCES}")
