"""Find the models that are loaded beside the main one, read their headers, and have each simulated.

What is somewhere else is planned from its header, and fetched by `pull` before llama-server is told of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.engine.find import Engine
from launcher.engine.flags.companion_flags import COMPANION_FILE_FLAGS, read_companions, with_local_file
from launcher.engine.flags.user_flags import adapter_files, split_flags
from launcher.errors import LauncherError, UsageError
from launcher.gguf.companion_names import DRAFT_KINDS
from launcher.machine.machine import Machine
from launcher.models.catalogue import Sources, resolve
from launcher.models.local import open_path
from launcher.models.located import Located
from launcher.models.repo_companions import open_draft_head, open_projector
from launcher.models.url_secrets import strip_word_secrets
from launcher.plan.amounts import Amount, Basis
from launcher.plan.companions import CompanionRequest, Companions, Draft, Projector, speculation_fields
from launcher.plan.memory.companion_questions import types_of_header
from launcher.plan.tuning.settings import EXPERT_CACHE
from launcher.plan.workload import Adapter
from launcher.progress import silent
from launcher.simulate.simulations import Simulations
from launcher.system.settings import Settings, expand_home
from launcher.units import MIB

REMOTE = ("hf:", "https://", "http://")
"""Beginnings of a companion's REF that is not a path."""
# what llama-server takes where no quant is named, else the first (find_best_model, common/download.cpp)
_USUAL_QUANTS = ("Q4_K_M", "Q8_0")
_MOST_DIGITS = 9  # of a size in MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCompanion:
    """A companion that is somewhere else."""

    # in words: draft model, projector
    what: str
    # what it was named by
    ref: str
    # llama-server's flag that takes its path, and the flags that go with it
    flag: str
    also: tuple[str, ...] = ()
    # or why it cannot be had
    file: Located | LauncherError


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCompanions:
    """Companions that some flags name."""

    request: CompanionRequest
    # those in the ledger
    draft: Located | None
    projector: Located | None
    # those to be fetched
    remote: tuple[RemoteCompanion, ...]
    # sentences on what is not in the ledger, those of drafters once more: with them there is no plain yes
    notes: tuple[str, ...]
    uncounted: tuple[str, ...] = ()


def find_companions(flags: Sequence[str], sources: Sources) -> FoundCompanions:
    """Find the draft model and the projector that llama-server flags name; read remote headers.

    Raises UsageError, and what opening a local model raises; a remote file that cannot be had is a note.
    """
    request = read_companions(flags)
    draft = projector = None
    remote: list[RemoteCompanion] = []
    notes: list[str] = []
    if request.draft is not None:
        named = request.draft.path
        if named.startswith(REMOTE):
            one = _remote_draft(named, request.spec_types, sources)
            request = read_companions((*flags, *one.also))
            remote.append(one)
            draft = _of(one, notes)
        else:
            draft = open_path(Path(named))
        if draft is not None and not request.spec_types:
            found = types_of_header(draft.model)
            request = read_companions((*flags, *(word for name in found for word in ("--spec-type", name))))
    if request.projector is not None:
        ref = request.projector.path
        if ref.startswith(REMOTE):
            remote.append(RemoteCompanion(what="projector", ref=ref, flag="-mm", file=_open(ref, sources)))
            projector = _of(remote[-1], notes)
        else:
            projector = open_path(Path(ref))
    return FoundCompanions(
        request=request,
        draft=draft,
        projector=projector,
        remote=tuple(remote),
        notes=tuple(notes),
        uncounted=tuple(notes),
    )


def with_repo_head(
    found: FoundCompanions, flags: Sequence[str], ref: str | None, sources: Sources
) -> FoundCompanions:
    """Return what these flags find if a draft head in the model's own repo `ref` is taken, too."""
    # llama-server looks there for the kinds of --spec-type (opts.download_mtp and its like, common/arg.cpp)
    kinds = [kind for kind in DRAFT_KINDS if f"draft-{kind}" in found.request.spec_types]
    if ref is None or not ref.startswith("hf:") or found.request.draft is not None or not kinds:
        return found
    try:
        head = open_draft_head(ref, kinds, sources)
    except LauncherError as error:
        note = f"whether the repo has a draft head is not known: {error.message}"
        return replace(found, notes=(*found.notes, note), uncounted=(*found.uncounted, note))
    if head is None:
        return found
    owner, name = ref.removeprefix("hf:").split("/")[:2]  # a file may follow
    return find_companions((*flags, "-hfd", f"{owner}/{name}"), sources)


def with_repo_projector(
    found: FoundCompanions, flags: Sequence[str], repo: str, sources: Sources
) -> FoundCompanions:
    """Add the projector that `-hf` loads without being asked; a repo that cannot be read is a note."""
    try:
        projector = open_projector(repo, sources)
    except LauncherError as error:
        note = f"a projector (mmproj) in the repo is loaded too and not in the ledger: {error.message}"
        return replace(found, notes=(*found.notes, note))
    if projector is None:
        return found
    request = read_companions((*flags, "-mm", projector.model.shards[0].name))
    return replace(found, request=replace(found.request, projector=request.projector), projector=projector)


@contextlib.contextmanager
def open_companions(
    found: FoundCompanions, engine: Engine | None, settings: Settings, machine: Machine
) -> Iterator[Companions]:
    """Open simulations of the companions for the length of the block."""
    draft: Draft | None = None
    projector: Projector | None = None
    with contextlib.ExitStack() as stack:
        if found.draft is not None and found.request.draft is not None:
            oracle = stack.enter_context(Simulations(found.draft, engine, settings, machine))
            draft = Draft(
                request=found.request.draft, model=found.draft.model, path=oracle.model, oracle=oracle
            )
        if found.projector is not None and found.request.projector is not None:
            oracle = stack.enter_context(Simulations(found.projector, engine, settings, machine))
            projector = Projector(
                request=found.request.projector, model=found.projector.model, path=oracle.model, oracle=oracle
            )
        yield Companions(
            draft=draft,
            mtp=found.request.mtp,
            projector=projector,
            uncounted=found.uncounted,
            **speculation_fields(found.request),
        )


def with_files(
    flags: Sequence[str], remote: Sequence[RemoteCompanion], paths: Sequence[Path]
) -> tuple[str, ...]:
    """Put the companions' paths, first shard each, in place of their URLs: llama-server downloads nothing."""
    said = tuple(flags)
    for one, path in zip(remote, paths, strict=True):
        said = with_local_file(said, one.flag, str(path), one.also)
    return said


def shown_flags(flags: Sequence[str]) -> tuple[str, ...]:
    """Strip the secrets from the URLs of companions, for flags that are printed or kept."""
    return tuple(
        strip_word_secrets(word) if name in COMPANION_FILE_FLAGS else word
        for name, words in split_flags(flags)
        for word in words
    )


def files_of(remote: Sequence[RemoteCompanion]) -> tuple[Located, ...]:
    """List the files to fetch. Raises the reason why one of them cannot be had."""
    found = []
    for one in remote:
        if isinstance(one.file, LauncherError):
            raise one.file
        found.append(one.file)
    return tuple(found)


def _remote_draft(ref: str, spec_types: Sequence[str], sources: Sources) -> RemoteCompanion:
    """Find what llama-server takes of a draft repo: a draft head of a requested kind, else a model."""
    kinds = [kind for kind in DRAFT_KINDS if not spec_types or f"draft-{kind}" in spec_types]
    try:
        head = open_draft_head(ref, kinds, sources) if kinds and not ref.endswith(".gguf") else None
    except LauncherError as error:
        return RemoteCompanion(what="draft model", ref=ref, flag="-md", file=error)
    if head is None:
        return RemoteCompanion(what="draft model", ref=ref, flag="-md", file=_open(ref, sources))
    kind, located = head
    # llama-server tells a head by its file's name, which is another one here
    also = () if spec_types else ("--spec-type", f"draft-{kind}")
    return RemoteCompanion(what="draft model", ref=ref, flag="-md", also=also, file=located)


def _open(ref: str, sources: Sources) -> Located | LauncherError:
    """Open the file of a URL, or the one that llama-server picks from a repo."""
    try:
        candidates = resolve(ref, None, sources).candidates
        by_quant = {one.quant.upper(): one for one in reversed(candidates)}
        picked = next((by_quant[quant] for quant in _USUAL_QUANTS if quant in by_quant), candidates[0])
        return picked.open(silent)
    except LauncherError as error:
        return error


def _of(remote: RemoteCompanion, notes: list[str]) -> Located | None:
    if isinstance(remote.file, Located):
        return remote.file
    why = remote.file.message
    notes.append(
        f"{remote.what} {strip_word_secrets(remote.ref)} is not in the ledger, its memory comes on top: {why}"
    )
    return None


def measure_adapters(flags: Sequence[str]) -> tuple[Adapter, ...]:
    """Measure what flags load beside the model: adapters by their size, a cache of experts by its limit.

    Raises UsageError for a file that is not there, and for a size that is none.
    """
    found = list(_expert_cache(flags))
    for name in adapter_files(flags):
        path = expand_home(Path(name))
        try:
            size = path.stat().st_size
        except OSError as error:
            raise UsageError(
                f"{name} after -- cannot be read: {error.strerror}", hint=f"ls -l {name}"
            ) from error
        amount = Amount(n_bytes=size, basis=Basis.ESTIMATED)
        found.append(Adapter(name=f"adapter {path.name}", amount=amount, everywhere=True))
    return tuple(found)


def _expert_cache(flags: Sequence[str]) -> Iterator[Adapter]:
    """Count llama.cpp's cache of the host's experts whole on every device: they share the limit."""
    for name, words in split_flags(flags):
        if name == EXPERT_CACHE:
            size = words[-1]
            if len(words) != 2 or not size.isascii() or not size.isdigit() or len(size) > _MOST_DIGITS:
                raise UsageError(f"{' '.join(words)} after -- is no size in MiB", hint=f"{EXPERT_CACHE} 2048")
            amount = Amount(n_bytes=int(size) * MIB, basis=Basis.ESTIMATED)
            yield Adapter(name="cache of experts", amount=amount, everywhere=True)
