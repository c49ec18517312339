"""The captured `--help` of the pinned engine and of an older one."""

from __future__ import annotations

from pathlib import Path

from launcher.engine.flags.command_line import arities_of
from launcher.engine.flags.help_text import parse_help

CAPTURES = Path(__file__).parents[2] / "captures/engine"


PINNED_OPTIONS = parse_help((CAPTURES / "help-0c1e570.txt").read_text(encoding="utf-8"))


OLDER = arities_of(parse_help((CAPTURES / "help-7e4c0a9.txt").read_text(encoding="utf-8")))
