"""The command `logs`."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.options.single import Name
from launcher.cli.show.output import Output
from launcher.errors import UsageError

# What launcher's own sentences begin with: no line of a log, and so of a model's metadata, looks like one.
_OURS = ("hint:", "error:", "warning:", "note:")


def logs(
    out: Output,
    name: Name = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Stay and print what comes.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines.")] = 100,
) -> None:
    """Print a deployment's log: what llama-server said."""
    from launcher.deployment.log_file import follow as read_lines
    from launcher.deployment.records import log_path, name_or_only, require_record
    from launcher.system.settings import read_settings

    folder = read_settings(out.warn).deployments_dir
    chosen = name_or_only(folder, name)
    path = log_path(folder, chosen)
    if not path.exists():
        require_record(folder, chosen)  # raises NotFound for a name that nothing has
    log_lines = read_lines(path, last_lines=lines, ended=None if follow else lambda: True)
    if not out.as_json:
        try:
            for line in log_lines:
                out.write_untrusted(f"{_told_apart(line)}\n")
        except KeyboardInterrupt:  # that is how it ends
            if not follow:
                raise
        return
    if follow:  # it ends with Ctrl-C, when nothing can be printed any more
        raise UsageError("a log that goes on is not one JSON document", hint=f"launcher logs {chosen} --json")
    out.show({"name": chosen, "path": path, "lines": tuple(log_lines)})


def _told_apart(line: str) -> str:
    return f"  {line}" if line.startswith(_OURS) else line
