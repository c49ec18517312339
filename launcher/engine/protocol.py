"""What a llama-server that was started as a child says of itself on stdout. Pure, sans-IO.

tools/server/server-models.cpp, `server_child::notify_to_router`: lines that begin with the command, JSON after it;
everything else on that stream is log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

STATE = b"cmd_child_to_router:state:"
EXIT = b"cmd_router_to_child:exit\n"
_LIMIT = 1 << 20
"""A line longer than this is no report of ours and goes to the log in pieces."""


class Reports:
    """The stream so far. `loaded` is the share of the model that is in, 0 to 1 over all stages (None before the
    first word), `is_ready` that it listens for EXIT."""

    def __init__(self) -> None:
        self.loaded: float | None = None
        self.is_ready = False
        self._rest = b""

    def add(self, data: bytes) -> bytes:
        """Takes what was read; returns the lines that are no reports, for the log."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LIMIT:
            lines, self._rest = [*lines, self._rest], b""
        words = []
        for line in lines:
            if line.startswith(STATE):
                self._note(line.removeprefix(STATE))
            elif line.strip():  # the protocol puts an empty line before each of its own
                words.append(line + b"\n")
        return b"".join(words)

    def _note(self, text: bytes) -> None:
        try:
            report = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(report, dict):
            return
        payload = report.get("payload")
        if report.get("state") == "ready":
            self.is_ready, self.loaded = True, 1.0
        elif report.get("state") == "loading" and isinstance(payload, dict):
            self.loaded = _share(payload)


def _share(payload: Mapping[str, Any]) -> float | None:
    """`value` is of the current stage (text model, projector, draft, ...); the stages before it are done."""
    stages, current, value = payload.get("stages"), payload.get("current"), payload.get("value")
    if not isinstance(value, int | float) or not isinstance(stages, list) or current not in stages:
        return None
    return (stages.index(current) + min(max(float(value), 0.0), 1.0)) / len(stages)
