"""The command `restart`."""

from __future__ import annotations

from launcher.cli.options.single import Name
from launcher.cli.show.output import Output


def restart(out: Output, name: Name = None) -> None:
    """Start a deployment again: same server, same port; nothing is planned anew. Replicas: one by one."""
    from launcher.cli.show.deployments import deployment_json, render_deployment
    from launcher.commands.restart import restart as restart_deployment
    from launcher.deployment.replicas import find_replicas
    from launcher.system.settings import read_settings

    settings = read_settings(out.warn)
    if name is not None and find_replicas(settings.deployments_dir, name):
        from launcher.commands.cluster.replicas import restart_replicas

        with out.progress() as progress:
            replicas = restart_replicas(settings, name, progress)
        out.show([deployment_json(each) for each in replicas], *map(render_deployment, replicas))
        return
    with out.progress() as progress:
        deployment = restart_deployment(name, progress)
    out.show(deployment_json(deployment), render_deployment(deployment))
