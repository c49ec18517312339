"""Read what a llama-server started as a child reports on stdout. Pure, sans-IO.

tools/server/server-models.cpp, `server_child::notify_to_router`: lines that begin with the command, JSON
after it; all else is log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.system.json_object import parse_json

_STATE = b"cmd_child_to_router:state:"
EXIT = b"cmd_router_to_child:exit\n"
_LONGEST_LINE = 1 << 20  # a longer line is no report and goes to the log in pieces


class Reports:
    """The reports read so far from a child's stdout."""

    def __init__(self) -> None:
        self.loaded: float | None = None  # share of the model, 0 to 1 over all stages
        self.is_ready = False  # it listens for EXIT
        self._rest = b""

    def add(self, data: bytes) -> bytes:
        """Take bytes that were read; return the lines that are no reports, for the log."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        log_lines = []
        for line in lines:
            if line.startswith(_STATE):
                self._note(line.removeprefix(_STATE))
            elif line.strip():  # the protocol puts an empty line before each of its own
                log_lines.append(line + b"\n")
        return b"".join(log_lines)

    def _note(self, text: bytes) -> None:
        try:
            report = parse_json(text)
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
    stages, current, value = payload.get("stages"), payload.get("current"), payload.get("value")
    if not isinstance(value, int | float) or not isinstance(stages, list) or current not in stages:
        return None
    # `value` is of the current stage (text model, projector, draft, ...); the stages before it are done.
    return (stages.index(current) + min(max(float(value), 0.0), 1.0)) / len(stages)
