"""The files that are loaded beside the model: found, their headers read, and someone to ask about each.

What is somewhere else is planned from its header, and brought here by `pulling` before llama-server is told of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.engine.find import Engine
from launcher.engine.flags.companion_flags import COMPANION_FILE_FLAGS, read_companions, with_local_file
from launcher.engine.flags.user_flags import adapter_files, split_flags
from launcher.errors import LauncherError, UsageError
from launcher.machine.machine import Machine
from launcher.models.catalogue import Sources, open_draft_head, resolve
from launcher.models.local import open_path
from launcher.models.located import Located
from launcher.models.url_secrets import strip_word_secrets
from launcher.plan.amounts import Amount, Basis
from launcher.plan.companions import CompanionRequest, Companions, Draft, Projector
from launcher.plan.memory.companion_questions import needs_main_context
from launcher.plan.workload import Adapter
from launcher.progress import silent
from launcher.simulate.simulations import Simulations
from launcher.system.settings import Settings, expand_home

REMOTE = ("hf:", "https://", "http://")
"""What the REF of a file begins with that is not here, as flags of llama-server are read."""
_USUAL_QUANTS = ("Q4_K_M", "Q8_0")
"""What llama-server takes from a repo where no quant is named, else the first (find_best_model, common/download.cpp)."""
_HEADS = ("mtp", "dspark", "dflash", "eagle3")
"""Kinds of draft heads, in the order in which llama-server takes one of a draft repo (common/arg.cpp)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A companion that is somewhere else: `what` it is, the `ref` it was named by, the `flag` of llama-server's that takes
    its path, and the flags that go with it. `found` is the file, or why it cannot be had."""

    what: str
    ref: str
    flag: str
    also: tuple[str, ...] = ()
    found: Located | LauncherError


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The companions that some flags name. `draft` and `projector` are those the ledger counts; `remote` those that have
    to be brought here; `notes` are sentences on what is not in the ledger."""

    wishes: CompanionRequest
    draft: Located | None
    projector: Located | None
    remote: tuple[Remote, ...]
    notes: tuple[str, ...]


def find_companions(flags: Sequence[str], sources: Sources) -> Found:
    """The draft model and the projector that these flags of llama-server's name: of those that are somewhere else, the
    headers are read.

    Raises UsageError, and what opening a local model raises; what cannot be had from elsewhere is a note.
    """
    wishes = read_companions(flags)
    draft = projector = None
    remote: list[Remote] = []
    notes: list[str] = []
    if wishes.draft is not None:
        named = wishes.draft.path
        if named.startswith(REMOTE):
            one = _remote_draft(named, wishes.spec_types, sources)
            wishes = read_companions((*flags, *one.also))
            remote.append(one)
            draft = _of(one, notes)
        else:
            draft = open_path(Path(named))
        if draft is not None and needs_main_context(wishes.spec_types, draft.model):
            notes.append(
                f"draft model {draft.model.model_id} is not in the ledger: it works on the main model's "
                "context, and its memory comes on top"
            )
            draft = None
    elif "draft-mtp" in wishes.spec_types:
        notes.append("the context of --spec-type draft-mtp is not in the ledger: its memory comes on top")
    if wishes.projector is not None:
        ref = wishes.projector.path
        if ref.startswith(REMOTE):
            remote.append(Remote(what="projector", ref=ref, flag="-mm", found=_open(ref, sources)))
            projector = _of(remote[-1], notes)
        else:
            projector = open_path(Path(ref))
    return Found(wishes=wishes, draft=draft, projector=projector, remote=tuple(remote), notes=tuple(notes))


@contextlib.contextmanager
def open_companions(
    found: Found, engine: Engine | None, settings: Settings, machine: Machine
) -> Iterator[Companions]:
    """What was found, while it may be asked about."""
    draft: Draft | None = None
    projector: Projector | None = None
    with contextlib.ExitStack() as stack:
        if found.draft is not None and found.wishes.draft is not None:
            oracle = stack.enter_context(Simulations(found.draft, engine, settings, machine))
            draft = Draft(
                request=found.wishes.draft, model=found.draft.model, path=oracle.model, oracle=oracle
            )
        if found.projector is not None and found.wishes.projector is not None:
            oracle = stack.enter_context(Simulations(found.projector, engine, settings, machine))
            projector = Projector(
                request=found.wishes.projector, model=found.projector.model, path=oracle.model, oracle=oracle
            )
        yield Companions(draft=draft, projector=projector, n_draft=found.wishes.n_draft)


def with_files(flags: Sequence[str], remote: Sequence[Remote], paths: Sequence[Path]) -> tuple[str, ...]:
    """These flags of llama-server's, with the files that were brought here for `remote`, first shard each: it downloads
    nothing."""
    said = tuple(flags)
    for one, path in zip(remote, paths, strict=True):
        said = with_local_file(said, one.flag, str(path), one.also)
    return said


def shown_flags(flags: Sequence[str]) -> tuple[str, ...]:
    """These flags of llama-server's as they may be printed and kept: the URLs of companions without their secrets."""
    return tuple(
        strip_word_secrets(word) if name in COMPANION_FILE_FLAGS else word
        for name, words in split_flags(flags)
        for word in words
    )


def files_of(remote: Sequence[Remote]) -> tuple[Located, ...]:
    """What is to be brought here. Raises why one of them cannot be had."""
    found = []
    for one in remote:
        if isinstance(one.found, LauncherError):
            raise one.found
        found.append(one.found)
    return tuple(found)


def _remote_draft(ref: str, spec_types: Sequence[str], sources: Sources) -> Remote:
    """What llama-server takes of a draft repo: a draft head of the wished kind, of any kind where none is wished, else a
    model. It tells a head by its file's name, which is not the name it has here: its kind is said."""
    kinds = [kind for kind in _HEADS if not spec_types or f"draft-{kind}" in spec_types]
    try:
        head = open_draft_head(ref, kinds, sources) if kinds and not ref.endswith(".gguf") else None
    except LauncherError as error:
        return Remote(what="draft model", ref=ref, flag="-md", found=error)
    if head is None:
        return Remote(what="draft model", ref=ref, flag="-md", found=_open(ref, sources))
    kind, located = head
    also = () if spec_types else ("--spec-type", f"draft-{kind}")
    return Remote(what="draft model", ref=ref, flag="-md", also=also, found=located)


def _open(ref: str, sources: Sources) -> Located | LauncherError:
    """The file of this URL; the one that llama-server picks from this repo."""
    try:
        candidates = resolve(ref, None, sources).candidates
        by_quant = {one.quant.upper(): one for one in reversed(candidates)}
        picked = next((by_quant[quant] for quant in _USUAL_QUANTS if quant in by_quant), candidates[0])
        return picked.open(silent)
    except LauncherError as error:
        return error


def _of(remote: Remote, notes: list[str]) -> Located | None:
    if isinstance(remote.found, Located):
        return remote.found
    why = remote.found.message
    notes.append(
        f"{remote.what} {strip_word_secrets(remote.ref)} is not in the ledger, its memory comes on top: {why}"
    )
    return None


def measure_adapters(flags: Sequence[str]) -> tuple[Adapter, ...]:
    """One Adapter per adapter, by its size. Raises UsageError for a file that is not there."""
    found = []
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
