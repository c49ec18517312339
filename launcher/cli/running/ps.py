"""The command `ps`."""

from __future__ import annotations

from launcher.cli.show.output import Output


def ps(out: Output) -> None:
    """List what runs here."""
    from launcher.cli.show.deployments import render_statuses, status_json
    from launcher.deployment.install.systemd import installed_units, unit_name
    from launcher.deployment.record import UnreadableRecord
    from launcher.deployment.records import read_all
    from launcher.deployment.status import ask_status
    from launcher.deployment.takedown import tidy
    from launcher.system.settings import read_settings

    folder = read_settings(out.warn).deployments_dir
    tidy(folder)
    # once for text and JSON: llama-server tells its speed since it was last asked
    reports = [
        entry if isinstance(entry, UnreadableRecord) else ask_status(entry) for entry in read_all(folder)
    ]
    out.show([status_json(report) for report in reports], render_statuses(reports))
    for name, state in installed_units():
        out.say(f"note: {name} is a unit of systemd ({state}): systemctl --user status {unit_name(name)}")
