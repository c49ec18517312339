"""The command `ps`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.show.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from launcher.deployment.record import UnreadableRecord
    from launcher.deployment.status import StatusReport
    from launcher.system.settings import Settings

_WATCH_S = 2.0


def ps(
    out: Output,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on showing it, with what the gateway does.")
    ] = False,
) -> None:
    """List what runs here."""
    from launcher.cli.show.deployments import render_statuses, status_json
    from launcher.deployment.install.systemd import installed_units, unit_name
    from launcher.deployment.takedown import tidy
    from launcher.system.settings import read_settings

    settings = read_settings(out.warn)
    tidy(settings.deployments_dir)
    if watch:
        out.keep_showing(_watched(settings), every_s=_WATCH_S)
        return
    # once for text and JSON: llama-server tells its speed since it was last asked
    reports = _reports(settings)
    out.show([status_json(report) for report in reports], render_statuses(reports))
    for name, state in installed_units():
        out.say(f"note: {name} is a unit of systemd ({state}): systemctl --user status {unit_name(name)}")


def _reports(settings: Settings) -> list[StatusReport | UnreadableRecord]:
    from launcher.deployment.record import UnreadableRecord
    from launcher.deployment.records import read_all
    from launcher.deployment.status import ask_status

    return [
        entry if isinstance(entry, UnreadableRecord) else ask_status(entry)
        for entry in read_all(settings.deployments_dir)
    ]


def _watched(settings: Settings) -> Callable[[], tuple[object, RenderableType]]:
    """Return what is looked at again and again: as JSON, and for the terminal."""
    import os

    from rich.console import Group

    from launcher.cli.show.deployments import render_statuses, status_json
    from launcher.cli.show.gateway import render_gateway
    from launcher.gateway.ask_status import ask_gateway
    from launcher.gateway.config import read_gateway_config
    from launcher.gateway.running_address import gateway_url

    config = read_gateway_config(settings)
    key = os.environ.get("LAUNCHER_API_KEY")

    def look() -> tuple[object, RenderableType]:
        reports = _reports(settings)
        url = gateway_url(settings, config)
        gateway = ask_gateway(url, key)
        parts = [render_statuses(reports)]
        if gateway is not None:
            parts.append(render_gateway(gateway, url))
        document = {"deployments": [status_json(report) for report in reports], "gateway": gateway}
        return document, Group(*parts)

    return look
