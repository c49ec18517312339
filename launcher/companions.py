"""The files that are loaded beside the model, opened: their headers read, and someone to ask about each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.engine.companion_flags import read_companions
from launcher.engine.find import Engine
from launcher.hub.local import open_path
from launcher.machine import Machine
from launcher.plan.companions import Companions, Draft, Projector, needs_main_context
from launcher.settings import Settings
from launcher.simulations import Simulations


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """`notes` are sentences on what is not in the ledger."""

    companions: Companions
    notes: tuple[str, ...]


@contextlib.contextmanager
def open_companions(
    flags: Sequence[str], engine: Engine | None, settings: Settings, machine: Machine
) -> Iterator[Opened]:
    """The draft model and the projector that these flags of llama-server's name, while they may be asked about.

    Raises UsageError, and what opening a local model raises.
    """
    wishes = read_companions(flags)
    draft: Draft | None = None
    projector: Projector | None = None
    notes: list[str] = []
    with contextlib.ExitStack() as stack:
        if wishes.draft is not None:
            located = open_path(Path(wishes.draft.path))
            if needs_main_context(wishes.spec_types, located.model):
                notes.append(
                    f"draft model {located.model.model_id} is not in the ledger: it works on the main model's "
                    "context, and its memory comes on top"
                )
            else:
                oracle = stack.enter_context(Simulations(located, engine, settings, machine))
                draft = Draft(wish=wishes.draft, model=located.model, path=oracle.model, oracle=oracle)
        elif "draft-mtp" in wishes.spec_types:
            notes.append("the context of --spec-type draft-mtp is not in the ledger: its memory comes on top")
        if wishes.projector is not None:
            located = open_path(Path(wishes.projector.path))
            oracle = stack.enter_context(Simulations(located, engine, settings, machine))
            projector = Projector(
                wish=wishes.projector, model=located.model, path=oracle.model, oracle=oracle
            )
        yield Opened(
            companions=Companions(draft=draft, projector=projector, n_draft=wishes.n_draft),
            notes=tuple(notes),
        )
