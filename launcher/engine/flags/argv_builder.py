"""Collect the options of a command line, in the spellings that one engine has. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from launcher.engine.flags.user_flags import SPELLINGS
from launcher.errors import UsageError


class KnownFlags(Protocol):
    """What a command line needs of an engine's `Capabilities`."""

    def has(self, spelling: str) -> bool: ...


@dataclass(slots=True)
class ArgvBuilder:
    """The options of a command line for one engine, collected: (first spelling, spelling used, value)."""

    flags: KnownFlags | None
    parts: list[tuple[str, str, str | None]] = field(default_factory=list)

    def knows(self, *spellings: str) -> str | None:
        """Return the first spelling that the engine has."""
        if self.flags is None:
            return spellings[0]  # the pinned engine has them all
        return next((spelling for spelling in spellings if self.flags.has(spelling)), None)

    def add(self, name: str, value: str | None, why: str) -> None:
        """Add an option that the plan needs. Raises UsageError if the engine does not have it."""
        spellings = next((group for group in SPELLINGS if group[0] == name), (name,))
        spelling = self.knows(*spellings)
        if spelling is None:
            raise UsageError(
                f"this llama-server has no {spellings[-1]}, and the plan needs it for {why}",
                hint="launcher engine update",
            )
        self.parts.append((name, spelling, value))

    def add_if_known(self, name: str, value: str | None = None) -> None:
        """Add an option that the plan can do without."""
        spelling = self.knows(*next((group for group in SPELLINGS if group[0] == name), (name,)))
        if spelling is not None:
            self.parts.append((name, spelling, value))
