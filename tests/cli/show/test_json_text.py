"""Values as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from launcher.cli.show.json_text import json_text, json_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    path: Path
    sizes: tuple[int, ...]


def test_values_become_plain_json() -> None:
    assert json_value({"inner": Inner(path=Path("/m"), sizes=(1, 2)), "none": None}) == {
        "inner": {"path": "/m", "sizes": [1, 2]},
        "none": None,
    }


def test_no_sign_that_a_terminal_obeys_is_printed() -> None:
    values = ["\x1b[31m\n\x7f\x9b\u2028\u202e\u2066\U000e0001\udcff\u200b", "é 漢 🙂"]
    text = json_text({"key\u202e": values})
    assert all(line.isprintable() for line in text.split("\n"))
    assert json.loads(text) == {"key\u202e": values}
    assert "é 漢 🙂" in text
