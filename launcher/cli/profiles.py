"""The commands `profiles list` and `profiles show`."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.options import unfolded
from launcher.cli.show.output import Output

profiles = typer.Typer(help="The models launcher knows by name.", rich_markup_mode=None, no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Hang the commands on the app."""
    profiles.command("list")(unfolded(list_profiles))
    profiles.command("show")(unfolded(show_profile))
    app.add_typer(profiles, name="profiles")


def list_profiles(out: Output) -> None:
    """List the profiles: name, model, quants, context."""
    from launcher.cli.show import tables
    from launcher.models import catalogue
    from launcher.system.settings import read_settings

    found = catalogue.read_profiles(read_settings())
    for broken in found.broken:
        out.say(f"note: {broken.error.message}")
    out.show(found.usable, tables.profiles(found.usable))


def show_profile(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A profile's name.", show_default=False)],
    out: Output,
) -> None:
    """Show one profile: its quants and where they live, sampling, the paid API it compares to."""
    from launcher.cli.show import tables
    from launcher.models import catalogue
    from launcher.models.profiles.profile import pick_profile
    from launcher.system.settings import read_settings

    profile = pick_profile(catalogue.read_profiles(read_settings()), name)
    out.show(profile, tables.profile(profile))
