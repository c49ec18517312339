"""Resolve a reference to candidate quants, best first. Knows nothing about machines.

What talks to a network is imported inside functions: huggingface_hub's client takes 0.2 s to import.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from launcher.errors import NotFound, TryAgain, UsageError
from launcher.gguf.file_names import FileGroup, quant_label, shard_name
from launcher.models.bundled import BundledModel, find_bundled
from launcher.models.hub.endpoint import Endpoint, endpoint_in_use
from launcher.models.local import open_path
from launcher.models.located import DeferredFiles, Located
from launcher.models.profile_headers import open_without_files, shipped_headers
from launcher.models.profiles.folders import read_model_profiles
from launcher.models.profiles.profile import (
    ModelProfile,
    ProfileQuant,
    Profiles,
    WheelSource,
    pick_profile,
    quants_to_try,
)
from launcher.models.refs import ModelRef, RefKind, parse_ref
from launcher.models.store import HubStore, store_of
from launcher.models.url_secrets import strip_secrets, strip_word_secrets
from launcher.progress import OnProgress
from launcher.system.settings import Settings, expand_home, own_folders, profiles_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A quant that may be planned; `open` reads its headers."""

    quant: str  # empty if the file's name has none
    size_bytes: int | None  # None if unknown before the headers are read
    open: Callable[[OnProgress], Located]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A resolved reference."""

    model_id: str  # the name clients send
    profile: ModelProfile | None
    candidates: tuple[Candidate, ...]  # best first

    def of_quant(self, quant: str | None) -> Target:
        """Return it with this quant only; unchanged if none is called so."""
        same = tuple(each for each in self.candidates if each.quant in {quant, ""})
        return replace(self, candidates=same or self.candidates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The places models come from."""

    endpoint: Endpoint
    store: HubStore
    models_dir: Path
    profiles: Profiles
    folders: tuple[Path, ...] = ()  # of the user's own GGUF files
    headers_dirs: tuple[Path, ...] = ()  # of saved headers, `PROFILE-QUANT.headers`


def sources_of(settings: Settings, *, offline: bool = False) -> Sources:
    """Return the sources that settings and environment name."""
    return Sources(
        endpoint=endpoint_in_use(offline=offline),
        store=store_of(settings),
        models_dir=settings.models_dir,
        profiles=read_profiles(settings),
        folders=own_folders(settings),
        headers_dirs=(settings.own_profiles_dir / "headers", profiles_dir() / "headers"),
    )


def read_profiles(settings: Settings) -> Profiles:
    """Read the shipped profiles and the user's own."""
    return read_model_profiles((profiles_dir() / "models", settings.own_profiles_dir / "models"))


def resolve(text: str, quant: str | None, sources: Sources) -> Target:
    """Resolve what the user typed; `quant` (`--quant`) stands for the `:QUANT` of the text.

    What a bundle brought is what its name means here. Lists a Hub repo, reads no header. Raises UsageError
    for two different quants, NotFound, and what listing raises.
    """
    bundled = find_bundled(sources.models_dir, text)
    if bundled is not None and quant in {None, quant_label(bundled.path.name)}:
        return _bundled_target(bundled, sources)
    try:
        ref = parse_ref(
            text,
            profile_names=sources.profiles.names,
            path_exists=lambda name: expand_home(Path(name)).exists(),
            hub_url=sources.endpoint.url,
        )
    except NotFound:
        stored = None if quant else _stored_target(text, sources)
        if stored is None:
            raise
        return stored
    if quant and ref.quant and quant.lower() != ref.quant.lower():
        raise UsageError(
            f"{strip_word_secrets(text)} and --quant {quant} name two quants",
            hint=f"launcher plan {strip_word_secrets(text)}",
        )
    chosen = quant or ref.quant
    if ref.kind is RefKind.PROFILE:
        return _profile_target(pick_profile(sources.profiles, ref.name), chosen, sources)
    if ref.kind is RefKind.HUB:
        return _hub_target(ref, chosen, sources)
    if quant:
        raise UsageError(f"--quant {quant} has no meaning for one file", hint="leave --quant out")
    return _file_target(text, ref, sources)


def _file_target(text: str, ref: ModelRef, sources: Sources) -> Target:
    if ref.kind is RefKind.URL and sources.endpoint.offline:
        file = _kept_file(ref.name, sources)
        return _single(file.name, lambda _: open_path(file))
    if ref.kind is RefKind.URL:
        return _single(urlsplit(ref.name).path, lambda _: _open_url(ref.name))
    return _single(text, lambda _: open_path(expand_home(Path(ref.name))))


def _stored_target(text: str, sources: Sources) -> Target | None:
    """Find a model by its name in `ls`: another program's, or in a folder of the config file."""
    from launcher.models.kept.list import find_stored, list_stored, stores_here

    stores = stores_here(sources.endpoint.cache_dir, sources.models_dir, sources.folders)
    found = find_stored(list_stored(stores, sources.store), text)
    return None if found is None else _single(found.name, lambda _: open_path(found.paths[0]))


def _bundled_target(bundled: BundledModel, sources: Sources) -> Target:
    own = bundled.model_id in sources.profiles.names
    quant = quant_label(bundled.path.name) or ""
    return Target(
        model_id=bundled.model_id,
        profile=pick_profile(sources.profiles, bundled.model_id) if own else None,
        candidates=(Candidate(quant=quant, size_bytes=None, open=lambda _: bundled.open()),),
    )


def _kept_file(url: str, sources: Sources) -> Path:
    from launcher.models.url_download import kept_file

    file = kept_file(sources.models_dir, url, sources.store)
    if file is None:
        raise NotFound(
            f"{strip_secrets(url)} is not here and may not be asked for (--offline or HF_HUB_OFFLINE)",
            hint="leave --offline out and HF_HUB_OFFLINE unset, or name the file here by its path",
        )
    return file


def _open_url(url: str) -> Located:
    from launcher.models.url import open_url

    return open_url(url)


def _single(text: str, open_: Callable[[OnProgress], Located]) -> Target:
    name = Path(text.rstrip("/")).name
    shard = shard_name(name)
    model_id = shard.stem if shard else name.removesuffix(".gguf")
    return Target(
        model_id=model_id,
        profile=None,
        candidates=(Candidate(quant=quant_label(name) or "", size_bytes=None, open=open_),),
    )


def _profile_target(profile: ModelProfile, quant: str | None, sources: Sources) -> Target:
    quants = _ProfileQuants(profile, sources)
    return Target(
        model_id=profile.name,
        profile=profile,
        candidates=tuple(quants.candidate(listed) for listed in quants_to_try(profile, quant)),
    )


class _ProfileQuants:
    """The quants of one profile as candidates."""

    def __init__(self, profile: ModelProfile, sources: Sources) -> None:
        self._profile = profile
        self._sources = sources
        # Why the Hub did not answer for one quant: the next one does not wait for it again.
        self._hub_silence: TryAgain | None = None

    def candidate(self, quant: ProfileQuant) -> Candidate:
        return Candidate(quant=quant.name, size_bytes=quant.size_bytes, open=partial(self._open, quant))

    def _open(self, quant: ProfileQuant, on_progress: OnProgress) -> Located:
        ref = ModelRef(
            kind=RefKind.HUB, name=quant.repo, quant=quant.label, file=quant.file, revision=quant.revision
        )
        if quant.wheel is not None:
            return self._open_with_wheel(quant, quant.wheel, ref, on_progress)
        from launcher.models.hub.repo import open_repo

        sources = self._sources
        try:
            if self._hub_silence is not None:
                raise self._hub_silence
            return open_repo(ref, endpoint=sources.endpoint, store=sources.store)
        except TryAgain as error:
            if self._hub_silence is None:
                self._hub_silence = TryAgain("the Hub did not answer just before", hint=error.hint)
            return open_without_files(self._profile, quant, sources.headers_dirs, error)
        except NotFound as error:
            return open_without_files(self._profile, quant, sources.headers_dirs, error)

    def _open_with_wheel(
        self, quant: ProfileQuant, wheel: WheelSource, ref: ModelRef, on_progress: OnProgress
    ) -> Located:
        from launcher.models.wheel import open_first, open_here

        # the file if it is here, else the shipped headers of that very file
        endpoint, store, models_dir = self._sources.endpoint, self._sources.store, self._sources.models_dir
        here = open_here(ref, wheel, endpoint=endpoint, store=store, models_dir=models_dir)
        if here is not None:
            return here
        locate = partial(open_first, ref, wheel, endpoint=endpoint, store=store, models_dir=models_dir)
        # A wheel has no headers that could be read without downloading all of it.
        saved = shipped_headers(self._profile, quant, self._sources.headers_dirs)
        if saved is None or [shard.sha256 for shard in saved[1].model.shards] != [wheel.sha256]:
            return locate(on_progress=on_progress)
        deferred = DeferredFiles(locate=lambda on_progress: locate(on_progress=on_progress))
        return replace(saved[1], files=deferred)


def _hub_target(ref: ModelRef, quant: str | None, sources: Sources) -> Target:
    """Resolve a Hub repo to one quant, or to the default and every smaller one, largest first."""
    from launcher.models.hub.headers import open_group
    from launcher.models.hub.quants import list_quants, pick_files
    from launcher.models.hub.repo import list_repo

    ref = replace(ref, quant=quant)
    listing = list_repo(ref, endpoint=sources.endpoint, store=sources.store)
    first = pick_files(listing, ref)  # without a quant: what `llama-server -hf` would take
    groups = [first]
    if not (quant or ref.file):
        smaller = [
            group
            for group in list_quants(listing)
            if group.size_bytes < first.size_bytes and group.is_complete
        ]
        groups += sorted(smaller, key=lambda group: group.size_bytes, reverse=True)

    def opener(group: FileGroup) -> Callable[[OnProgress], Located]:
        return lambda _: open_group(listing, group, endpoint=sources.endpoint, store=sources.store)

    return Target(
        model_id=f"{ref.name}:{first.label}" if quant or ref.file else ref.name,
        profile=None,
        candidates=tuple(
            Candidate(quant=group.label, size_bytes=group.size_bytes, open=opener(group)) for group in groups
        ),
    )
