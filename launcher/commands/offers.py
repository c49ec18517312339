"""Open the quants that could be planned: read their headers, and have a simulator stand by for each."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from launcher.commands.here import Here
from launcher.engine.architectures import check_architecture
from launcher.engine.dialect import check_types
from launcher.engine.find import Engine
from launcher.errors import BadGguf
from launcher.gguf.anatomy import dissect
from launcher.machine.machine import Machine
from launcher.machine.shared_memory import memory_bytes
from launcher.models.catalogue import Candidate, Target
from launcher.models.fetch import bytes_to_fetch
from launcher.models.located import Located
from launcher.plan.memory.kernels import check_peers
from launcher.plan.modes import Dialect
from launcher.plan.plan import Plan
from launcher.plan.search.choice import Alternative
from launcher.plan.search.task import Offer
from launcher.plan.search.verify import ModelSimulator
from launcher.simulate.simulations import Simulations

MOST_OPENED = 6
"""Quants of a repo whose headers are read for one plan: the largest that could fit."""


def worth_opening(candidates: tuple[Candidate, ...], machine: Machine) -> tuple[Candidate, ...]:
    """Pick of many quants those whose files could fit at all, or else the smallest; of few, all."""
    if len(candidates) <= MOST_OPENED or any(candidate.size_bytes is None for candidate in candidates):
        return candidates
    capacity = memory_bytes(machine)
    small_enough = [candidate for candidate in candidates if (candidate.size_bytes or 0) <= capacity]
    if not small_enough:
        return (min(candidates, key=lambda candidate: candidate.size_bytes or 0),)
    return tuple(small_enough[:MOST_OPENED])


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """The quants whose headers could be read, each with its files, and those that llama.cpp would refuse."""

    opened: tuple[tuple[Offer, Located], ...]
    refused: tuple[Alternative, ...]

    @property
    def offers(self) -> list[Offer]:
        return [offer for offer, _ in self.opened]

    def located_of(self, plan: Plan | None) -> Located | None:
        """Find the files of the quant that was planned."""
        if plan is None:
            return None
        wanted = (plan.quant, plan.source, plan.size_bytes)
        named = (
            ((offer.quant, offer.model.source, offer.model.size_bytes), files) for offer, files in self.opened
        )
        return next((files for name, files in named if name == wanted), None)


def open_offers(
    here: Here,
    target: Target,
    machine: Machine,
    loader: tuple[Engine | None, Dialect | None],
    stack: ExitStack,
) -> Offers:
    """Read the headers of the quants worth it. Raises BadGguf where none can be used."""
    engine, dialect = loader
    opened: list[tuple[Offer, Located]] = []
    refused: list[tuple[Candidate, BadGguf]] = []
    for candidate in worth_opening(target.candidates, machine):
        try:
            located = candidate.open(here.on_progress)
            check_types(located.model.model_id, located.model.tensors, dialect)
            types = (tensor.type for tensor in located.model.tensors)
            check_peers(located.model.model_id, types, machine.devices)
            if engine is not None and dialect is Dialect.IK:
                check_architecture(engine, str(located.model.metadata.get("general.architecture")))
            quant = candidate.quant or dissect(located.model.metadata, located.model.tensors).quant
        except BadGguf as error:  # a type that only a fork knows, or damage: the other quants may do
            refused.append((candidate, error))
            continue
        oracle = stack.enter_context(Simulations(located, engine, here.settings, machine))
        offer = Offer(
            quant=quant,
            model=located.model,
            simulator=simulator_of(oracle, dialect),
            fetch_bytes=bytes_to_fetch(located, here.sources),
            notes=located.notes,
        )
        opened.append((offer, located))
    if refused and not opened:
        raise refused[0][1]
    return Offers(opened=tuple(opened), refused=tuple(_refused(*each) for each in refused))


def simulator_of(oracle: Simulations, dialect: Dialect | None) -> ModelSimulator | None:
    """Return the model's simulator; None for ik_llama.cpp, which allocates otherwise than its answers."""
    return None if dialect is Dialect.IK else ModelSimulator(oracle=oracle, path=oracle.model)


def _refused(candidate: Candidate, error: BadGguf) -> Alternative:
    return Alternative(
        quant=candidate.quant,
        size_bytes=candidate.size_bytes or 0,
        cache_type="",
        ubatch_size=0,
        ctx_size=0,
        fits=False,
        reason=f"cannot be loaded: {error.message}" + (f" ({error.hint})" if error.hint else ""),
        flags=f"--quant {candidate.quant}",
    )
