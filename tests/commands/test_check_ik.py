"""Where ik_llama.cpp is the engine that plans use, a line is checked without one; named, it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.commands import check as checking
from launcher.commands.check import CheckRequest, open_bench
from launcher.commands.here import Here
from launcher.engine.dialect import complete, dialect_of
from launcher.engine.find import Engine, EngineSource
from launcher.engine.flags.help_text import Capabilities, Version, parse_help
from launcher.errors import UsageError
from tests.plan.shapes import machine

HELP = Path(__file__).parents[1] / "captures" / "engine" / "help-ik-0.1.5.txt"


def test_a_line_is_checked_without_the_engine_that_reads_it_otherwise(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    its = Engine(path=tmp_path / "llama-server", folder=tmp_path, source=EngineSource.OPTION)
    version = Version(text="1", build=1, commit="1", compiler=None)
    options = complete(parse_help(HELP.read_text(encoding="utf-8")))
    known = Capabilities(sha256="", version=version, options=options, dialect=dialect_of(options))
    monkeypatch.setattr(checking, "engine_or_none", lambda *_given: its)
    monkeypatch.setattr(checking, "read_capabilities", lambda *_given: known)
    monkeypatch.setattr(checking, "probe", lambda *_given: machine())
    bench = open_bench(here, CheckRequest(words=("llama-server",)))
    assert (bench.engine, bench.known) == (None, None)
    with pytest.raises(UsageError, match=r"this engine is ik_llama\.cpp"):
        open_bench(here, CheckRequest(words=("llama-server",), engine=its.path))
