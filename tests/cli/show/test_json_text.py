"""Values as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher.cli.show.json_text import json_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    path: Path
    sizes: tuple[int, ...]


def test_values_become_plain_json() -> None:
    assert json_value({"inner": Inner(path=Path("/m"), sizes=(1, 2)), "none": None}) == {
        "inner": {"path": "/m", "sizes": [1, 2]},
        "none": None,
    }
