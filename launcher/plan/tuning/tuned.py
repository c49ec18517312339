"""Hold what tuning found, as a value and as JSON. Pure."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from launcher.gguf.model import ModelFile
from launcher.machine.rig import Rig, is_same
from launcher.plan.forecast.benched import family_of
from launcher.system.json_object import JsonObject, Malformed, parse_json

_SCHEMA = 1
_MOST_WORDS = 32
# What settings_to_try() lists: the file may be anybody's by now, and its words become llama-server's.
_FLAGS = frozenset(
    ("-t", "-tb", "-ub", "-b", "--spec-type", "--spec-draft-n-max", "-ncmoe", "-ctk", "-ctv", "-lm", "--numa")
)
_VALUE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
_MOST_TEXT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """Settings that were faster for a model, with an engine, on a machine; none: the plan's own are best."""

    date: str  # 2026-11-30
    model_id: str
    family: str
    quant: str
    size_bytes: int
    engine: str
    rig: Rig
    words: tuple[str, ...]
    ratio: float  # of the speed with them to that without
    workload: str  # what was measured

    def is_of(self, model: ModelFile, rig: Rig, engine: str | None) -> bool:
        return (
            (self.family, self.size_bytes) == (family_of(model), model.size_bytes)
            and self.engine == engine
            and is_same(self.rig, rig)
        )


def tuned_json(tuned: Tuned) -> dict[str, Any]:
    return {"schema": _SCHEMA, **asdict(tuned)}


def parse_tuned(text: str | bytes) -> Tuned:
    """Return what `tuned_json` wrote. Raises Malformed."""
    given = JsonObject(parse_json(text))
    if given.whole("schema") != _SCHEMA:
        raise Malformed("it is of another schema")
    rig, words = given.object_at("rig"), given.texts("words")
    if len(words) > _MOST_WORDS:
        raise given.malformed("words", f"has more than {_MOST_WORDS}")
    if len(words) % 2 or not _FLAGS.issuperset(words[::2]) or not all(map(_VALUE.fullmatch, words[1::2])):
        raise given.malformed("words", "has one that no setting has")
    return Tuned(
        date=_shown(given, "date"),
        model_id=given.text("model_id"),
        family=given.text("family"),
        quant=given.text("quant"),
        size_bytes=given.whole("size_bytes"),
        engine=given.text("engine"),
        rig=Rig(
            cpu=rig.optional_text("cpu"),
            ram_total_bytes=rig.whole("ram_total_bytes", 1),
            devices=rig.texts("devices"),
        ),
        words=words,
        ratio=given.number("ratio"),
        workload=_shown(given, "workload"),
    )


def _shown(given: JsonObject, key: str) -> str:
    text = given.text(key)
    if len(text) > _MOST_TEXT or not text.isprintable():
        raise given.malformed(key, "is no line of text")
    return text
