"""Say what was measured: which model, with which engine, on which machine, and when. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.gguf.model import ModelFile
from launcher.machine.rig import Rig, parse_rig
from launcher.system.json_object import JsonObject

_MOST_TEXT = 600  # a file's name is in some


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    date: str  # 2026-11-30
    model_id: str
    family: str  # general.architecture
    quant: str
    size_bytes: int
    engine: str  # its commit
    rig: Rig

    def is_model(self, model: ModelFile) -> bool:
        """Tell if this model was measured, whatever it is called."""
        return (self.family, self.size_bytes) == (family_of(model), model.size_bytes)


def family_of(model: ModelFile) -> str:
    return str(model.metadata.get("general.architecture", "unknown"))


def parse_subject(given: JsonObject) -> Subject:
    """Read a subject among the fields of what was found. Raises Malformed."""
    return Subject(
        date=_date(given),
        model_id=parse_shown(given, "model_id"),
        family=given.text("family"),
        quant=parse_shown(given, "quant"),
        size_bytes=given.whole("size_bytes"),
        engine=parse_shown(given, "engine"),
        rig=parse_rig(given.object_at("rig")),
    )


def _date(given: JsonObject) -> str:
    date = given.text("date")
    if len(date) != 10 or not date.isascii() or not date.isprintable():
        raise given.malformed("date", "is not a date")
    return date


def parse_shown(given: JsonObject, key: str) -> str:
    """Read a text that is shown: one line, and not a long one. Raises Malformed."""
    text = given.text(key)
    if len(text) > _MOST_TEXT or not text.isprintable():
        raise given.malformed(key, "is no line of text")
    return text
