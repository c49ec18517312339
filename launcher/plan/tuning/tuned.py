"""Hold what tuning found, as a value and as JSON. Pure."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from launcher.plan.forecast.subject import Subject, parse_shown, parse_subject
from launcher.plan.tuning.settings import EXPERT_CACHE, flags_of
from launcher.system.json_object import parse_document

_SCHEMA = 1
_MOST_WORDS = 32
# What settings_to_try() lists: the file may be anybody's by now, and its words become llama-server's.
_FLAGS = frozenset(
    f"-t -tb -ub -b --spec-type --spec-draft-n-max -ncmoe {EXPERT_CACHE} -ctk -ctv -lm --numa".split()
)
_SWITCHES = frozenset({"--op-offload", "--no-op-offload"})
_VALUE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """Settings that were faster for a model, with an engine, on a machine; none: the plan's own are best."""

    subject: Subject
    words: tuple[str, ...]
    ratio: float  # of the speed with them to that without
    workload: str  # what was measured


def tuned_json(tuned: Tuned) -> dict[str, Any]:
    found = {"words": list(tuned.words), "ratio": tuned.ratio, "workload": tuned.workload}
    return {"schema": _SCHEMA, **asdict(tuned.subject), **found}


def parse_tuned(text: str | bytes) -> Tuned:
    """Return what `tuned_json` wrote. Raises Malformed."""
    given = parse_document(text, _SCHEMA)
    words = given.texts("words")
    if len(words) > _MOST_WORDS:
        raise given.malformed("words", f"has more than {_MOST_WORDS}")
    pairs = tuple(flags_of(words))
    # written again they are the words: nothing stands before, between or after them
    written = tuple(word for pair in pairs for word in pair if word)
    if written != tuple(words) or not all(_is_kept(*pair) for pair in pairs):
        raise given.malformed("words", "has one that no setting has")
    return Tuned(
        subject=parse_subject(given),
        words=words,
        ratio=given.number("ratio"),
        workload=parse_shown(given, "workload"),
    )


def _is_kept(flag: str, value: str) -> bool:
    return not value if flag in _SWITCHES else flag in _FLAGS and _VALUE.fullmatch(value) is not None
