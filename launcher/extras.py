"""Further files that the user's flags load: what each takes, measured from the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from launcher.engine.wishes import further_files
from launcher.errors import UsageError
from launcher.plan.plan import Amount, Basis, Extra
from launcher.settings import expand


def measure_extras(flags: Sequence[str]) -> tuple[Extra, ...]:
    """One Extra per adapter, by its size. Raises UsageError for a file that is not there."""
    found = []
    for kind, name in further_files(flags):
        path = expand(Path(name))
        try:
            size = path.stat().st_size
        except OSError as error:
            raise UsageError(
                f"{name} after -- cannot be read: {error.strerror}", hint=f"ls -l {name}"
            ) from error
        amount = Amount(n_bytes=size, basis=Basis.ESTIMATED)
        found.append(Extra(name=f"{kind} {path.name}", amount=amount, everywhere=True))
    return tuple(found)
