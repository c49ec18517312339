"""Recommend profiles for a machine: by published quality for a purpose, by estimated fit and speed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from launcher.commands.claims import unreserved_machine
from launcher.commands.here import Here
from launcher.commands.measurements import for_model
from launcher.commands.probe import MachineChoice
from launcher.engine.flags.user_flags import absorb_flags
from launcher.errors import BadGguf, NotFound, UsageError
from launcher.machine.machine import Machine
from launcher.machine.shared_memory import memory_bytes
from launcher.models.profile_headers import shipped_headers
from launcher.models.profiles.made_headers import make_headers
from launcher.models.profiles.near import near_names, squeeze
from launcher.models.profiles.profile import ModelProfile, ProfileQuant, Purpose, Score
from launcher.plan.search.glance import Glance, glance
from launcher.plan.search.task import Offer, Task
from launcher.plan.workload import Workload
from launcher.units import format_bytes

# Benchmarks by which models of a purpose are ordered: whoever has the first comes before whoever has only
# the second. Figures of different benchmarks say nothing about each other.
BENCHMARKS: dict[Purpose, tuple[str, ...]] = {
    Purpose.CHAT: ("GPQA Diamond", "MMLU-Pro"),
    Purpose.CODING: ("SWE-bench Verified", "LiveCodeBench v6"),
    Purpose.VISION: ("MMMU-Pro",),
    Purpose.EMBEDDING: ("MTEB multilingual",),
    Purpose.RERANK: (),
}
COMFORTABLE_TPS = 8.0  # tokens/s, about twice as fast as people read aloud
READERS = (Purpose.EMBEDDING, Purpose.RERANK)  # they generate nothing: the speed of reading counts
_BEFORE_HEADERS = 0.97  # of the memory: a file larger than this needs no second look


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommended:
    """A model that fits by estimate, and the quant to take."""

    profile: ModelProfile
    score: Score | None  # the figure that it is ordered by
    found: Glance
    is_slow: bool

    @property
    def ref(self) -> str:
        return f"{self.profile.name}:{self.found.quant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    purpose: Purpose
    machine: str  # in words
    rows: tuple[Recommended, ...]
    not_looked_at: int  # models ranked lower than the last row
    too_large: tuple[str, ...]  # better ones that do not fit


def recommend(here: Here, choice: MachineChoice, purpose: Purpose, most: int) -> Recommendation:
    """Return at most `most` models for a purpose, best first; reads nothing but profiles and this machine."""
    machine = unreserved_machine(here, choice)  # no engine is asked for its devices
    ranked = rank(here.sources.profiles.usable, purpose)
    comfortable: list[Recommended] = []
    slow: list[Recommended] = []
    too_large: list[str] = []
    looked_at = 0
    for profile, score in ranked:
        if len(comfortable) == most:
            break
        looked_at += 1
        found = best_quant(here, profile, machine)
        if found is None:
            too_large.append(profile.name)
            continue
        is_slow = purpose not in READERS and found.forecast.decode.mid < COMFORTABLE_TPS
        row = Recommended(profile=profile, score=score, found=found, is_slow=is_slow)
        (slow if is_slow else comfortable).append(row)
    return Recommendation(
        purpose=purpose,
        machine=in_words(choice),
        rows=tuple((comfortable + slow)[:most]),
        not_looked_at=len(ranked) - looked_at,
        too_large=tuple(too_large),
    )


def in_words(choice: MachineChoice) -> str:
    """Name the machine that was chosen."""
    if not choice.described:
        return choice.name or "this machine"
    gpus = " and ".join(choice.gpus) or choice.cpu or "no GPU"
    return f"{gpus} with {format_bytes(choice.ram_bytes)} of RAM"


def rank(profiles: Iterable[ModelProfile], purpose: Purpose) -> list[tuple[ModelProfile, Score | None]]:
    """Order the models of a purpose: by its benchmarks, those without a figure last, larger ones first."""
    keyed = [(*_standing(profile, purpose), profile) for profile in profiles if purpose in profile.purposes]
    return [(profile, score) for _, score, profile in sorted(keyed, key=lambda row: row[0])]


def _standing(profile: ModelProfile, purpose: Purpose) -> tuple[tuple[int, float, int, str], Score | None]:
    size = max((quant.size_bytes or 0 for quant in profile.quants), default=0)
    names = BENCHMARKS[purpose]
    for place, name in enumerate(names):
        for score in profile.scores:
            if (score.benchmark, score.purpose) == (name, purpose):
                return (place, -score.value, -size, profile.name), score
    return (len(names), 0.0, -size, profile.name), None


def best_quant(here: Here, profile: ModelProfile, machine: Machine) -> Glance | None:
    """Return the best quant that fits and is comfortable, else the quickest that fits."""
    quants = _worth_a_look(profile, machine)
    if not quants:
        return None
    # more bytes take more room and time: where the smallest will not do, no other will
    smallest = min(quants, key=lambda quant: quant.size_bytes or 0)
    least = glance_at(here, profile, smallest, machine)
    if least is None or not _is_comfortable(profile, least):
        return least
    for quant in quants:
        if quant is smallest:
            break
        found = glance_at(here, profile, quant, machine)
        if found is not None and _is_comfortable(profile, found):
            return found
    return least


def _is_comfortable(profile: ModelProfile, found: Glance) -> bool:
    return set(profile.purposes) <= set(READERS) or found.forecast.decode.mid >= COMFORTABLE_TPS


def _worth_a_look(profile: ModelProfile, machine: Machine) -> Sequence[ProfileQuant]:
    room = memory_bytes(machine) * _BEFORE_HEADERS
    quants = profile.quants
    if profile.default_quant is not None:
        quants = tuple(quant for quant in quants if profile.default_quant in quant.names)
    return [quant for quant in quants if (quant.size_bytes or 0) <= room]


def glance_at(here: Here, profile: ModelProfile, quant: ProfileQuant, machine: Machine) -> Glance | None:
    """Estimate one quant; None if it does not fit, or nothing is known of it without its files."""
    try:
        saved = shipped_headers(profile, quant, here.sources.headers_dirs)
        made = make_headers(profile, quant) if saved is None else None
        model = saved[1].model if saved else made[0] if made else None
        if model is None:
            return None
        workload, _ = absorb_flags(profile.flags, Workload())
        machine = for_model(here.settings, machine, model, None)  # no engine is asked: any counts
        task = Task(machine=machine, workload=workload, default_ctx=profile.context.default)
        return glance(Offer(quant=quant.name, model=model), task)
    except (BadGguf, UsageError):  # a profile of the user's with a shape that cannot be: `plan` says why
        return None


def document(found: Recommendation) -> dict[str, object]:
    """Return the recommendation as `--json` prints it."""
    return {
        "for": found.purpose.value,
        "machine": found.machine,
        "estimated": True,
        "models": [_row(row) for row in found.rows],
        "too_large": list(found.too_large),
        "not_looked_at": found.not_looked_at,
    }


def _row(row: Recommended) -> dict[str, object]:
    decode = row.found.forecast.decode
    return {
        "profile": row.profile.name,
        "quant": row.found.quant,
        "command": f"launcher up {row.ref}",
        "benchmark": row.score.benchmark if row.score else None,
        "score": row.score.value if row.score else None,
        "score_source": row.score.source if row.score else None,
        "size_bytes": row.found.size_bytes,
        "ctx_size": row.found.ctx_size,
        "decode_tps": {"low": decode.low, "mid": decode.mid, "high": decode.high},
        "slow": row.is_slow,
        "license": row.profile.license,
    }


def pick_purpose(text: str) -> Purpose:
    """Return the purpose that is called so. Raises UsageError."""
    try:
        return Purpose(text.lower())
    except ValueError:
        known = ", ".join(purpose.value for purpose in Purpose)
        raise UsageError(
            f"--for {text!r} is none of {known}", hint="launcher recommend --for coding"
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    profile: ModelProfile
    found: Glance | None  # the best quant that fits, by estimate


def known_models(here: Here, choice: MachineChoice, query: str | None) -> tuple[KnownModel, ...]:
    """Return the profiles that a query names, each with the best quant that fits. Raises NotFound."""
    machine = unreserved_machine(here, choice)
    profiles = [profile for profile in here.sources.profiles.usable if _is_meant(profile, query)]
    if query is not None and not profiles:
        near = near_names(query, here.sources.profiles.names)
        raise NotFound(
            f"no profile is called anything like {query!r}",
            hint=f"launcher models {near[0]}" if near else "launcher models",
        )
    return tuple(
        KnownModel(profile=profile, found=best_quant(here, profile, machine)) for profile in profiles
    )


def _is_meant(profile: ModelProfile, query: str | None) -> bool:
    if query is None:
        return True
    words = (profile.name, profile.title.lower(), *(purpose.value for purpose in profile.purposes))
    return any(squeeze(query) in squeeze(word) for word in words)
