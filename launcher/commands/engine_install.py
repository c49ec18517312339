"""Install an engine that somebody else has built: the one named, or the best that runs here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from launcher.commands.here import Here
from launcher.commands.probe import Look, look_once
from launcher.engine.find import Engine
from launcher.engine.sources.archive import ArchiveSource, UrlSource
from launcher.engine.sources.host import read_host_facts
from launcher.engine.sources.install import find_installed, install_engine
from launcher.engine.sources.release import ReleaseSource, tag_of
from launcher.engine.sources.releases import HASTY, server_of
from launcher.engine.sources.source import Offer, Source
from launcher.engine.sources.wheel import WheelSource
from launcher.errors import EngineFailed, LauncherError, NotFound, TryAgain, UsageError
from launcher.machine.machine import Backend
from launcher.models.hub.endpoint import within
from launcher.progress import remark
from launcher.system.settings import expand_home
from launcher.units import format_bytes

_LOOK_UP_S = 15.0  # for all requests of one source, where another may have an engine
WHEEL = "wheel"
BUILD = "build"
SOURCES = "nothing (the best for this machine), b12345, latest, build, wheel, an https:// address, an archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """An engine that is here now, and what there is to say about it."""

    engine: Engine
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prebuilt:
    """An engine that could be installed, and where it comes from."""

    source: Source
    offer: Offer


def install(
    here: Here, source: str | None, backend: Backend | None = None, look: Look | None = None
) -> Installed:
    """Install from the named source; without one, the best that runs on this machine.

    Raises what the source raises; of several, the first's.
    """
    look = look or look_once(here)
    if source is None:
        found = find_prebuilt(here, backend, look)
        if not found and backend is not None:
            raise NotFound(
                f"no engine for {backend} that is built already runs on this machine",
                hint=f"launcher engine build --backend {backend}, or another: launcher engine install",
            )
    else:
        named = _named(here, source, backend, look)
        found = tuple(Prebuilt(source=named, offer=offer) for offer in named.find())
    installed = install_first(here, found)
    blind = installed.engine.build is not None and installed.engine.build.backend is Backend.CPU
    if blind and backend is None and read_host_facts(look()).has_gpu:
        sentence = "THE GPU IS NOT USED by it: launcher engine build makes one that uses it"
        return replace(installed, sentences=(*installed.sentences, sentence))
    return installed


def find_prebuilt(here: Here, backend: Backend | None, look: Look) -> tuple[Prebuilt, ...]:
    """Find the engines that somebody else has built for this machine, best first; none if there is none.

    A source that cannot be asked is passed over, and named unless a better one has an engine.
    """
    facts = read_host_facts(look())
    sources: tuple[Source, ...] = (WheelSource(facts=facts, backend=backend),)
    if not here.sources.endpoint.offline:
        sources = (ReleaseSource(server=server_of(here.env, HASTY), facts=facts, backend=backend), *sources)
    found: list[Prebuilt] = []
    for source in sources:
        try:
            # a name lookup has no end of its own
            offers = within(_LOOK_UP_S, source.find, host="the server of releases")
            found += [Prebuilt(source=source, offer=offer) for offer in offers]
        except (TryAgain, NotFound, EngineFailed) as error:
            if not found:
                here.on_progress(remark("install", error.message))
    # one that uses the GPU comes first, whoever has built it
    return tuple(sorted(found, key=lambda each: not each.offer.expects_gpu))


def install_first(here: Here, found: tuple[Prebuilt, ...]) -> Installed:
    """Install the first that arrives and runs; each that does not is named. Raises the first's error."""
    first: LauncherError | None = None
    for each in found:
        offer = each.offer
        for note in offer.notes:
            here.on_progress(remark("install", f"{note}: {offer.title} is taken"))
        engines_dir = here.settings.engines_dir
        if find_installed(offer, engines_dir) is None:
            what = f"{offer.title}, {format_bytes(offer.size_bytes)}, built by {offer.made_by}: {offer.file}"
            here.on_progress(remark("install", what))
        try:
            engine = install_engine(each.source, offer, engines_dir, on_progress=here.on_progress)
        except (TryAgain, NotFound, EngineFailed) as error:
            first = first or error
            here.on_progress(remark("install", error.message))
            continue
        return Installed(engine=engine, sentences=each.source.describe(offer))
    raise first or NotFound(
        "no engine that is built already runs on this machine", hint="launcher engine build makes one"
    )


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
    raise UsageError(
        f"{source!r} names no engine: no such archive, tag or word",
        hint=f"launcher engine install latest; SOURCE is one of {SOURCES}",
    )
