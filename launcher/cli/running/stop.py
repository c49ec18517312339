"""The command `stop`."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.options.complete import complete_deployment
from launcher.cli.show.output import Output
from launcher.errors import LauncherError, UsageError

_OUTCOMES = {"gone": "was gone already; forgotten", "starting": "stopped while it was starting"}


def stop(
    out: Output,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="The deployments; not needed when there is one.",
            show_default=False,
            autocompletion=complete_deployment,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Stop all deployments.")] = False,
) -> None:
    """End deployments, gracefully, then by force."""
    from rich.text import Text

    from launcher.commands.cluster.stop import stop_elsewhere
    from launcher.deployment.records import find_record, name_or_only, read_all
    from launcher.deployment.replicas import with_replicas
    from launcher.deployment.takedown import take_down
    from launcher.system.settings import read_settings

    if names and everything:
        raise UsageError("--all and names contradict each other", hint="launcher stop --all")
    settings = read_settings(out.warn)
    folder = settings.deployments_dir
    if everything:
        chosen = [entry.name for entry in read_all(folder)]
    else:
        chosen = list(dict.fromkeys(with_replicas(folder, names or ()))) or [name_or_only(folder, None)]
    stopped, errors = [], []
    for name in chosen:
        try:
            if problem := stop_elsewhere(settings, find_record(folder, name)):
                out.say(f"note: {problem}")
            stopped.append(take_down(folder, name))
        except LauncherError as error:  # the others are stopped all the same
            errors.append(error)
    if not errors or (stopped and not out.as_json):  # under --json an error is the one document
        out.show(stopped, *(Text(f"{end.name} {_OUTCOMES.get(end.was, 'stopped')}") for end in stopped))
    for other in errors[1:]:
        out.say(f"error: {other.message}")
    if errors:
        raise errors[0]
