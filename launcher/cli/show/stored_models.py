"""The models in the stores of this machine as a table."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.text import Text

from launcher.cli.show.tables import Roomy
from launcher.gguf.file_names import model_name
from launcher.models.kept.stored_model import YOURS, StoredModel
from launcher.units import format_bytes

_HEADERS = ("model", "size", "state", "used", "store")


def render_stored_models(models: Iterable[StoredModel], *, now: float) -> RenderableType:
    """Lay out one row per model; `now` is the Unix time that last uses are counted from."""
    rows = [
        (
            _name_to_type(model),
            format_bytes(model.here_bytes if model.is_whole else model.size_bytes),
            "whole" if model.is_whole else _partial(model),
            _ago(None if model.used_at is None else now - model.used_at),
            f"{model.store}, {model.paths[0].parent}" if _is_by_file(model) else model.store,
        )
        for model in models
    ]
    if not rows:
        return Text("no model is here: launcher pull MODEL")
    return Roomy(headers=_HEADERS, rows=rows, right=frozenset({"size"}))  # a name is typed


def _is_by_file(model: StoredModel) -> bool:
    return model.is_by_path and model.store == YOURS and bool(model.paths)


def _name_to_type(model: StoredModel) -> str:
    """Return what `up` and `plan` take: of the user's own files the file's name is enough."""
    return model_name(model.paths[0].name) if _is_by_file(model) else model.name


def _partial(model: StoredModel) -> str:
    if not model.size_bytes:
        return "partial"
    return f"{min(99, model.here_bytes * 100 // model.size_bytes)} %"  # 100 % would read as whole


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "now"
