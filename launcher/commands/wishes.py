"""What a script wishes of a plan, in the words of the command line, read into a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TypedDict, TypeVar

from launcher.commands.planned import PlanRequest
from launcher.commands.probe import THIS_MACHINE, MachineChoice
from launcher.errors import UsageError
from launcher.plan.modes import CacheType, NumaMode
from launcher.plan.workload import Limits, Prefer, Workload
from launcher.units import parse_context, parse_size

_Choice = TypeVar("_Choice", bound=StrEnum)


class Wishes(TypedDict, total=False):
    """What decides a plan beside model and machine: the options of `launcher plan`, left out or given.

    Sizes are bytes or text (`"8G"`), contexts tokens or text (`"32k"`). `reserve` is memory to leave free, by
    device id, `ram`, or "" for every device. `flags` are llama-server's own.
    """

    quant: str
    ctx_size: int | str
    n_parallel: int
    cache_type_k: str
    cache_type_v: str
    batch_size: int
    ubatch_size: int
    cache_ram: int | str
    prefer: str
    min_tps: float
    from_disk: bool
    reserve: Mapping[str, int | str]
    gpus: Sequence[str]
    max_ram: int | str
    numa: str
    mode: str
    engine: str | Path
    flags: Sequence[str]
    offline: bool
    vision: bool


def read_request(ref: str, wishes: Wishes, machine: MachineChoice = THIS_MACHINE) -> PlanRequest:
    """Read wishes as a request to plan.

    Raises TypeError for a word that is none of them, UsageError for a value that cannot be.
    """
    for word in wishes:
        if word not in Wishes.__annotations__:
            known = ", ".join(Wishes.__annotations__)
            raise TypeError(f"{word!r} is not a wish for a plan; these are: {known}")
    engine, gpus = wishes.get("engine"), wishes.get("gpus")
    return PlanRequest(
        ref=ref,
        quant=wishes.get("quant"),
        workload=_workload(wishes),
        limits=Limits(
            reserve=tuple((where, size_of(size)) for where, size in wishes.get("reserve", {}).items()),
            gpus=None if gpus is None else _words("gpus", gpus),
            max_ram_bytes=_size_or_none(wishes.get("max_ram")),
        ),
        machine=machine,
        engine=None if engine is None else Path(engine),
        flags=_words("flags", wishes.get("flags", ())),
        mode=wishes.get("mode"),
        vision=wishes.get("vision", True),
    )


def size_of(size: int | str) -> int:
    """Read a size in bytes or as text. Raises UsageError."""
    return size if isinstance(size, int) and size >= 0 else parse_size(str(size))


def _workload(wishes: Wishes) -> Workload:
    context = wishes.get("ctx_size")
    return Workload(
        ctx_size=None if context is None else parse_context(str(context)),
        n_parallel=_at_least_one("n_parallel", wishes.get("n_parallel")) or 1,
        cache_type_k=_choice("cache_type_k", wishes.get("cache_type_k"), CacheType),
        cache_type_v=_choice("cache_type_v", wishes.get("cache_type_v"), CacheType),
        batch_size=_at_least_one("batch_size", wishes.get("batch_size")),
        ubatch_size=_at_least_one("ubatch_size", wishes.get("ubatch_size")),
        cache_ram_bytes=_size_or_none(wishes.get("cache_ram")),
        prefer=_choice("prefer", wishes.get("prefer"), Prefer) or Prefer.BALANCED,
        min_tps=wishes.get("min_tps"),
        from_disk=wishes.get("from_disk", False),
        numa=_choice("numa", wishes.get("numa"), NumaMode),
    )


def _choice(word: str, value: str | None, choices: type[_Choice]) -> _Choice | None:
    if value is None:
        return None
    try:
        return choices(value)
    except ValueError:
        raise UsageError(
            f"{word} {value!r} is none of {', '.join(choices)}", hint=f"{word}={next(iter(choices)).value!r}"
        ) from None


def _at_least_one(word: str, value: int | None) -> int | None:
    if value is not None and not (isinstance(value, int) and value >= 1):
        raise UsageError(f"{word} {value!r} is not a whole number of at least 1", hint=f"{word}=1")
    return value


def _size_or_none(value: int | str | None) -> int | None:
    return None if value is None else size_of(value)


def _words(word: str, value: Sequence[str]) -> tuple[str, ...]:
    if isinstance(value, str):  # a string is a sequence of letters
        raise UsageError(f"{word} {value!r} is one string, not several", hint=f"{word}={value.split()!r}")
    return tuple(value)
