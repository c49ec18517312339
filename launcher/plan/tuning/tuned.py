"""Hold what tuning found, as a value and as JSON. Pure."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from launcher.plan.forecast.subject import Subject, parse_shown, parse_subject
from launcher.plan.tuning.settings import EXPERT_CACHE
from launcher.system.json_object import parse_document

_SCHEMA = 1
_MOST_WORDS = 32
# What settings_to_try() lists: the file may be anybody's by now, and its words become llama-server's.
_FLAGS = frozenset(
    f"-t -tb -ub -b --spec-type --spec-draft-n-max -ncmoe {EXPERT_CACHE} -ctk -ctv -lm --numa".split()
)
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
    if len(words) % 2 or not _FLAGS.issuperset(words[::2]) or not all(map(_VALUE.fullmatch, words[1::2])):
        raise given.malformed("words", "has one that no setting has")
    return Tuned(
        subject=parse_subject(given),
        words=words,
        ratio=given.number("ratio"),
        workload=parse_shown(given, "workload"),
    )
