"""What a command works with beside its request: settings, model sources, progress and questions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from launcher.cli.show.output import Output

if TYPE_CHECKING:
    from launcher.commands.here import Here


@contextmanager
def here_with_progress(
    out: Output,
    *,
    offline: bool = False,
    yes: bool = False,
    unasked: bool = True,
    env: tuple[tuple[str, str], ...] = (),
) -> Iterator[Here]:
    """Yield the `Here` of one command, and show its progress during the block.

    Without `unasked` nothing large is begun where nobody can be asked, but for `yes`.
    """
    from launcher.commands.here import here_with

    with out.progress() as progress:
        confirm = out.confirm(yes=yes) if unasked or yes else out.consent
        yield here_with(progress, offline=offline, env=env, confirm=confirm, consent=out.consent)
