"""Keep what a gang's runs leave for the next, in a file beside its record."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

from launcher.deployment.cluster.seats import GangSpec, Raising, choose
from launcher.system.atomic_files import write_atomically
from launcher.system.json_object import JsonObject, Malformed, parse_json
from launcher.system.small_files import read_small


class GangMemory:
    """What outlives one run: the last epoch, and which machines were lost when."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._epoch = 0
        self._lost: dict[str, float] = {}
        with contextlib.suppress(OSError, Malformed):
            given = JsonObject(parse_json(read_small(file)))
            self._epoch = given.whole("epoch")
            self._lost = {node: float(at) for node, at in given.object_at("lost").wholes_by_key().items()}

    def begin(self, spec: GangSpec) -> tuple[int, Raising]:
        """Return a new epoch, higher than any before, and what is to be raised where."""
        self._epoch = max(self._epoch + 1, time.time_ns() // 1_000_000)
        self._save()
        return self._epoch, choose(spec, self._lost, time.time())

    def note_loss(self, node: str) -> None:
        self._lost[node] = time.time()
        self._save()

    def _save(self) -> None:
        # A lost file costs nothing but the choice: epochs grow with the clock.
        lost: Mapping[str, int] = {node: int(at) for node, at in self._lost.items()}
        with contextlib.suppress(OSError):
            write_atomically(self._file, json.dumps({"epoch": self._epoch, "lost": lost}).encode())
