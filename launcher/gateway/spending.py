"""Keep what fallbacks have cost, by month and model, and stop them at their budget."""

from __future__ import annotations

import json
import time
from pathlib import Path

from launcher.deployment.records import make_private
from launcher.errors import UsageError
from launcher.gateway.fallback_config import Allowance, FallbackConfig, allow
from launcher.system.atomic_files import write_atomically
from launcher.system.json_object import JsonObject, Malformed, parse_json
from launcher.system.owned_files import read_file

_MOST_BYTES = 1 << 20
_MONTHS = 24


class Spending:
    """One gateway of a user runs at a time: what it holds in memory is what the file says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._months = _read(path)
        self._reserved: dict[str, float] = {}

    def spent(self, model: str) -> float:
        """Return the dollars of this month."""
        return self._months.get(_month(), {}).get(model, 0.0)

    def reserve(
        self, model: str, config: FallbackConfig, prompt_tokens: int, tokens: int
    ) -> Allowance | None:
        """Set aside what a request may cost at most; None if the budget does not hold it."""
        left = config.monthly_budget - self.spent(model) - self._reserved.get(model, 0.0)
        allowance = allow(config.prices, left, prompt_tokens, tokens)
        if allowance is not None:
            self._reserved[model] = self._reserved.get(model, 0.0) + allowance.dollars
        return allowance

    def settle(self, model: str, allowance: Allowance, dollars: float) -> None:
        """Book what a request has cost, in place of what was set aside. Raises OSError."""
        self._reserved[model] = max(0.0, self._reserved.get(model, 0.0) - allowance.dollars)
        if dollars <= 0:
            return
        month = self._months.setdefault(_month(), {})
        month[model] = month.get(model, 0.0) + dollars
        kept = dict(sorted(self._months.items())[-_MONTHS:])
        make_private(self._path.parent)
        write_atomically(self._path, json.dumps({"schema": 1, "months": kept}, indent=1).encode())


def _read(path: Path) -> dict[str, dict[str, float]]:
    """Return what was spent. Raises UsageError: without it nobody knows what is left."""
    try:
        text, _ = read_file(path, _MOST_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=f"ls -l {path}") from error
    try:
        given = JsonObject(parse_json(text))
        months = given.object_at("months")
        found = {}
        for month in given.mapping("months"):
            spent = months.object_at(month)
            found[month] = {name: spent.number(name) for name in months.mapping(month)}
    except Malformed as error:
        raise UsageError(
            f"{path} cannot be used: {error}", hint=f"mend it, or take it away: mv {path} {path}.old"
        ) from error
    return found


def _month() -> str:
    return time.strftime("%Y-%m", time.gmtime())
