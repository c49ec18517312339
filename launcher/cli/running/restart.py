"""The command `restart`."""

from __future__ import annotations

from launcher.cli.options.single import Name
from launcher.cli.show.output import Output


def restart(out: Output, name: Name = None) -> None:
    """Start a deployment again: same server, same port; nothing is planned anew."""
    from launcher.cli.show.deployments import deployment_json, render_deployment
    from launcher.commands.restart import restart as restart_deployment

    with out.progress() as progress:
        deployment = restart_deployment(name, progress)
    out.show(deployment_json(deployment), render_deployment(deployment))
