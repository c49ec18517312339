"""One value of the config file is changed, and every comment stays."""

from __future__ import annotations

import tomllib

import pytest

from launcher.errors import UsageError
from launcher.system.config_text import TEMPLATE, set_value

MINE = """\
# mine
engine = "/a#b"  # why

[gateway]
port = 9000
[defaults]
prefer = "speed" # quick
reserve = [
  "1G",
]
"""


@pytest.mark.parametrize("text", ["", TEMPLATE, MINE], ids=["none", "template", "mine"])
@pytest.mark.parametrize(
    ("key", "value"), [("engine", "/x y"), ("context", "32k"), ("port", 80), ("folders", ["a", 'b"c'])]
)
def test_a_value_is_set_and_taken_back(text: str, key: str, value: object) -> None:
    changed = set_value(text, key, value)
    given = tomllib.loads(changed)
    assert (given if key == "engine" else given["defaults"])[key] == value
    assert [line for line in text.splitlines() if line.startswith("# mine")] == [
        line for line in changed.splitlines() if line.startswith("# mine")
    ]
    again = tomllib.loads(set_value(changed, key, None))
    assert key not in (again if key == "engine" else again.get("defaults", {}))


def test_a_comment_behind_a_value_stays_and_other_tables_too() -> None:
    changed = set_value(set_value(MINE, "engine", "/c"), "prefer", "quality")
    assert 'engine = "/c"  # why' in changed
    assert 'prefer = "quality" # quick' in changed
    assert tomllib.loads(changed)["gateway"] == {"port": 9000}


def test_what_a_line_cannot_change_is_said() -> None:
    with pytest.raises(UsageError, match="several lines"):
        set_value(MINE, "reserve", ["2G"])
    with pytest.raises(UsageError, match="cannot be read"):
        set_value("= =", "port", 80)
