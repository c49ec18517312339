"""What a REF means: which quants come into question, best first, and how each becomes headers and files.

It knows every kind of source and nothing about machines; nothing is fetched until a candidate is asked. What
talks to the Hub is imported where it is needed: a model that is here must not wait for a library it does not use
(huggingface_hub's client takes 0.2 s to import).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from launcher.errors import LauncherError, NotFound, TryAgain, UsageError
from launcher.gguf.file_names import FileGroup, ShardName, pick_head, quant_label, shard_name
from launcher.models.hub.endpoint import Endpoint, endpoint_in_use
from launcher.models.local import open_path
from launcher.models.located import DeferredFiles, Located, UnreachableFiles
from launcher.models.profiles.folders import read_model_profiles
from launcher.models.profiles.made_headers import make_headers
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
from launcher.models.wheel import open_first, open_here
from launcher.progress import OnProgress
from launcher.system.settings import Settings, expand_home, profiles_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One quant that may be planned; "" where its file's name has none. `open` reads its headers; `size_bytes` is known before that, or None."""

    quant: str
    size_bytes: int | None
    open: Callable[[OnProgress], Located]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A REF, resolved. `model_id` is the name clients send; candidates are best first."""

    model_id: str
    profile: ModelProfile | None
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where models come from on this machine."""

    endpoint: Endpoint
    store: HubStore
    models_dir: Path
    profiles: Profiles
    headers_dirs: tuple[Path, ...] = ()


def sources_of(settings: Settings, *, offline: bool = False) -> Sources:
    """The sources that settings and environment name; `offline` asks no Hub, as HF_HUB_OFFLINE does."""
    endpoint = endpoint_in_use()
    return Sources(
        endpoint=replace(endpoint, offline=True) if offline else endpoint,
        store=store_of(settings),
        models_dir=settings.models_dir,
        profiles=read_profiles(settings),
        headers_dirs=(settings.own_profiles_dir / "headers", profiles_dir() / "headers"),
    )


def read_profiles(settings: Settings) -> Profiles:
    """The shipped profiles and the user's own."""
    return read_model_profiles((profiles_dir() / "models", settings.own_profiles_dir / "models"))


def resolve(text: str, quant: str | None, sources: Sources) -> Target:
    """The target of what the user typed; `quant` (`--quant`) stands for the `:QUANT` of REF.

    Raises UsageError for two different quants, NotFound, and what listing a repo raises.
    """
    ref = parse_ref(
        text,
        profile_names=[profile.name for profile in sources.profiles.usable]
        + [broken.name for broken in sources.profiles.broken],
        path_exists=lambda name: expand_home(Path(name)).exists(),
        hub_url=sources.endpoint.url,
    )
    if quant and ref.quant and quant.lower() != ref.quant.lower():
        raise UsageError(
            f"{strip_word_secrets(text)} and --quant {quant} name two quants",
            hint=f"launcher plan {strip_word_secrets(text)}",
        )
    wanted = quant or ref.quant
    if ref.kind is RefKind.PROFILE:
        return _profile_target(pick_profile(sources.profiles, ref.name), wanted, sources)
    if ref.kind is RefKind.HUB:
        return _hub_target(ref, wanted, sources)
    if quant:
        raise UsageError(f"--quant {quant} has no meaning for one file", hint="leave --quant out")
    if ref.kind is RefKind.URL and sources.endpoint.offline:
        kept = _kept_file(ref.name, sources)
        return _single(kept.name, lambda _: open_path(kept))
    if ref.kind is RefKind.URL:
        return _single(urlsplit(ref.name).path, lambda _: _open_url(ref.name))
    return _single(text, lambda _: open_path(expand_home(Path(ref.name))))


def open_draft_head(text: str, kinds: Sequence[str], sources: Sources) -> tuple[str, Located] | None:
    """The draft head of the first of these kinds (`mtp`, `eagle3`) that a repo of the Hub has, with its kind, its header
    read; None where it has none. Raises what `resolve` raises."""
    from launcher.models.hub.headers import open_group
    from launcher.models.hub.quants import pick_files
    from launcher.models.hub.repo import list_repo

    hub: dict[str, Any] = {"endpoint": sources.endpoint, "store": sources.store}
    ref = parse_ref(text, profile_names=(), path_exists=lambda _: False, hub_url=sources.endpoint.url)
    listing = list_repo(ref, **hub)
    picked = pick_head((file.name for file in listing.files), kinds, ref.quant)
    if picked is None:
        return None
    kind, name = picked
    return kind, open_group(listing, pick_files(listing, replace(ref, quant=None, file=name)), **hub)


def _kept_file(url: str, sources: Sources) -> Path:
    from launcher.models.url_download import kept_file

    kept = kept_file(sources.models_dir, url, sources.store)
    if kept is None:
        raise NotFound(
            f"{strip_secrets(url)} is not here and may not be asked for (--offline or HF_HUB_OFFLINE)",
            hint="leave --offline out and HF_HUB_OFFLINE unset, or name the file here by its path",
        )
    return kept


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


def _open_without_files(
    profile: ModelProfile, quant: ProfileQuant, sources: Sources, cause: LauncherError
) -> Located:
    """What a profile can say about a quant whose files cannot be looked at: saved headers (`PROFILE-QUANT.headers` in a
    profiles folder's `headers`), else those made from its recipe. Raises `cause` where it has neither."""
    saved = _shipped_headers(profile, quant, sources)
    if saved is not None:
        path, located = saved
        return replace(located, notes=(f"headers as saved in {path.name}: {cause.message}",))
    made = make_headers(profile, quant)
    if made is None:
        raise cause
    model, raw, said = made
    return Located(
        model=model,
        raw_headers=(raw,),
        files=UnreachableFiles(repo=quant.repo, file=_first_file(quant), cause=cause.message),
        notes=(f"{said}; the files were not looked at: {cause.message}",),
    )


def _first_file(quant: ProfileQuant) -> str:
    """The first shard's name as repos of quants call it, where the profile knows how many there are; else what stands
    for it."""
    if quant.file:
        return quant.file
    stem = f"{quant.repo.rpartition('/')[2].removesuffix('-GGUF')}-{quant.label}"
    if quant.n_shards is None:
        return f"FIRST-SHARD-OF-{stem}.gguf"
    return (
        f"{stem}.gguf"
        if quant.n_shards == 1
        else ShardName(stem=stem, index=1, count=quant.n_shards).sibling(1)
    )


def _shipped_headers(
    profile: ModelProfile, quant: ProfileQuant, sources: Sources
) -> tuple[Path, Located] | None:
    for folder in sources.headers_dirs:
        path = folder / f"{profile.name}-{quant.label}.headers"
        if path.is_file():
            from launcher.models.saved import read_saved

            return path, read_saved(path)
    return None


def _open_with_wheel(
    profile: ModelProfile,
    quant: ProfileQuant,
    wheel: WheelSource,
    ref: ModelRef,
    sources: Sources,
    on_progress: OnProgress,
) -> Located:
    """What is here, else the shipped headers of that very file: a wheel has none that could be read without all of it."""
    places: dict[str, Any] = {
        "endpoint": sources.endpoint,
        "store": sources.store,
        "models_dir": sources.models_dir,
    }
    here = open_here(ref, wheel, **places)
    if here is not None:
        return here
    locate = partial(open_first, ref, wheel, **places)
    saved = _shipped_headers(profile, quant, sources)
    if saved is None or [shard.sha256 for shard in saved[1].model.shards] != [wheel.sha256]:
        return locate(on_progress=on_progress)
    return replace(saved[1], files=DeferredFiles(locate=lambda watching: locate(on_progress=watching)))


def _profile_target(profile: ModelProfile, wanted: str | None, sources: Sources) -> Target:
    # Why the Hub did not answer for one quant: the next one does not wait for it again.
    silent: list[TryAgain] = []

    def opener(quant: ProfileQuant) -> Callable[[OnProgress], Located]:
        ref = ModelRef(
            kind=RefKind.HUB, name=quant.repo, quant=quant.label, file=quant.file, revision=quant.revision
        )

        def open_(on_progress: OnProgress) -> Located:
            if quant.wheel is None:
                from launcher.models.hub.repo import open_repo

                try:
                    if silent:
                        raise silent[0]
                    return open_repo(ref, endpoint=sources.endpoint, store=sources.store)
                except TryAgain as error:
                    if not silent:
                        silent.append(TryAgain("the Hub did not answer just before", hint=error.hint))
                    return _open_without_files(profile, quant, sources, error)
                except NotFound as error:
                    return _open_without_files(profile, quant, sources, error)
            return _open_with_wheel(profile, quant, quant.wheel, ref, sources, on_progress)

        return open_

    return Target(
        model_id=profile.name,
        profile=profile,
        candidates=tuple(
            Candidate(quant=quant.name, size_bytes=quant.size_bytes, open=opener(quant))
            for quant in quants_to_try(profile, wanted)
        ),
    )


def _hub_target(ref: ModelRef, wanted: str | None, sources: Sources) -> Target:
    """Without a quant: the one `llama-server -hf` would take, then every smaller one, largest first."""
    from launcher.models.hub.headers import open_group
    from launcher.models.hub.quants import list_quants, pick_files
    from launcher.models.hub.repo import list_repo

    asked = ModelRef(kind=ref.kind, name=ref.name, quant=wanted, file=ref.file, revision=ref.revision)
    listing = list_repo(asked, endpoint=sources.endpoint, store=sources.store)
    first = pick_files(listing, asked)
    groups = [first]
    if not (wanted or ref.file):
        smaller = [
            group
            for group in list_quants(listing)
            if group.size_bytes < first.size_bytes and group.is_complete
        ]
        groups += sorted(smaller, key=lambda group: group.size_bytes, reverse=True)

    def opener(group: FileGroup) -> Callable[[OnProgress], Located]:
        return lambda _: open_group(listing, group, endpoint=sources.endpoint, store=sources.store)

    return Target(
        model_id=f"{ref.name}:{first.label}" if wanted or ref.file else ref.name,
        profile=None,
        candidates=tuple(
            Candidate(quant=group.label, size_bytes=group.size_bytes, open=opener(group)) for group in groups
        ),
    )
