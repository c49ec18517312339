"""What the command line gives every command beside its request: settings, sources, and whom to ask and tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from launcher.cli.show.output import Output

if TYPE_CHECKING:
    from launcher.commands.here import Here


@contextmanager
def working(
    out: Output, *, offline: bool = False, yes: bool = False, env: tuple[tuple[str, str], ...] = ()
) -> Iterator[Here]:
    """Yield the `Here` of one command; its progress is shown during the block."""
    from launcher.commands.here import here_with

    with out.progress() as progress:
        yield here_with(progress, offline=offline, env=env, confirm=out.confirm(yes=yes), consent=out.consent)
