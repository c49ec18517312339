"""Every parser of what others may have written, on files that are cut, damaged or made to do harm.

Each answers with a value or one sentence, in bounded time and memory. `scripts/bench attacks` prints the worst of each.
"""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from launcher.units import MIB
from tests.attacks.hostile import bent
from tests.attacks.parsers import PARSERS, REFUSALS

COUNT = 770  # of each of 17 parsers: 13,000
MOST_SECONDS = 5.0  # only the unbounded is meant
MOST_BYTES = 200 * MIB


@pytest.mark.parametrize("name", PARSERS)
def test_bent_files_are_read_or_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    parser = PARSERS[name](tmp_path)
    parser.read(parser.good)
    worst, sentences = 0.0, [""]
    tracemalloc.start()
    try:
        for number, data in enumerate(bent(parser.good, COUNT)):
            began = time.monotonic()
            try:
                parser.read(data)
            except REFUSALS as error:
                sentences.append(str(error))
            except Exception as error:
                error.add_note(f"{name}, bent text {number}: {data[:200]!r}")
                raise
            worst = max(worst, time.monotonic() - began)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [text for text in sentences if not text.isprintable()] == []
    assert worst < MOST_SECONDS, f"{name} took {worst:.1f} s"
    assert peak < MOST_BYTES, f"{name} took {peak / MIB:.0f} MiB"
