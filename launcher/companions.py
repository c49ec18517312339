"""The files that are loaded beside the model, opened: their headers read, and someone to ask about each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.catalogue import resolve, sources_of
from launcher.engine.companion_flags import read_companions
from launcher.engine.find import Engine
from launcher.errors import LauncherError
from launcher.hub.local import open_path
from launcher.hub.located import Located
from launcher.machine import Machine
from launcher.plan.companions import Companions, Draft, Projector, needs_main_context
from launcher.progress import silent
from launcher.settings import Settings
from launcher.simulations import Simulations

_REMOTE = ("hf:", "https://", "http://")
_USUAL_QUANTS = ("Q4_K_M", "Q8_0")
"""What llama-server takes from a repo where no quant is named, else the first (find_best_model, common/download.cpp)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """`notes` are sentences on what is not in the ledger."""

    companions: Companions
    notes: tuple[str, ...]


@contextlib.contextmanager
def open_companions(
    flags: Sequence[str], engine: Engine | None, settings: Settings, machine: Machine
) -> Iterator[Opened]:
    """The draft model and the projector that these flags of llama-server's name, while they may be asked about: of
    those that are somewhere else, the headers are read.

    Raises UsageError, and what opening a local model raises; what cannot be had from elsewhere is a note.
    """
    wishes = read_companions(flags)
    draft: Draft | None = None
    projector: Projector | None = None
    notes: list[str] = []
    with contextlib.ExitStack() as stack:
        if wishes.draft is not None:
            located = _open("draft model", wishes.draft.path, settings, notes)
            if located is not None and needs_main_context(wishes.spec_types, located.model):
                notes.append(
                    f"draft model {located.model.model_id} is not in the ledger: it works on the main model's "
                    "context, and its memory comes on top"
                )
            elif located is not None:
                oracle = stack.enter_context(Simulations(located, engine, settings, machine))
                draft = Draft(wish=wishes.draft, model=located.model, path=oracle.model, oracle=oracle)
        elif "draft-mtp" in wishes.spec_types:
            notes.append("the context of --spec-type draft-mtp is not in the ledger: its memory comes on top")
        if wishes.projector is not None:
            located = _open("projector", wishes.projector.path, settings, notes)
            if located is not None:
                oracle = stack.enter_context(Simulations(located, engine, settings, machine))
                projector = Projector(
                    wish=wishes.projector, model=located.model, path=oracle.model, oracle=oracle
                )
        yield Opened(
            companions=Companions(draft=draft, projector=projector, n_draft=wishes.n_draft),
            notes=tuple(notes),
        )


def _open(what: str, ref: str, settings: Settings, notes: list[str]) -> Located | None:
    """The file of this path; the one of this URL, or that llama-server picks from this repo, or a note why not."""
    if not ref.startswith(_REMOTE):
        return open_path(Path(ref))
    try:
        candidates = resolve(ref, None, sources_of(settings)).candidates
        by_quant = {one.quant.upper(): one for one in reversed(candidates)}
        picked = next((by_quant[quant] for quant in _USUAL_QUANTS if quant in by_quant), candidates[0])
        return picked.open(silent)
    except LauncherError as error:
        notes.append(f"{what} {ref} is not in the ledger, its memory comes on top: {error.message}")
        return None
