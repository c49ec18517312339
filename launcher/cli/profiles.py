"""The commands `profiles list` and `profiles show`."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.show.output import Output


def list_profiles(out: Output) -> None:
    """List the profiles: name, model, quants, context."""
    from launcher.cli.show.profiles import render_profiles
    from launcher.models.catalogue import read_profiles
    from launcher.system.settings import read_settings

    profiles = read_profiles(read_settings())
    for broken in profiles.broken:
        out.say(f"note: {broken.error.message}")
    out.show(profiles.usable, render_profiles(profiles.usable))


def show_profile(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A profile's name.", show_default=False)],
    out: Output,
) -> None:
    """Show one profile: its quants and where they live, sampling, the paid API it compares to."""
    from launcher.cli.show.profiles import render_profile
    from launcher.models.catalogue import read_profiles
    from launcher.models.profiles.profile import pick_profile
    from launcher.system.settings import read_settings

    profile = pick_profile(read_profiles(read_settings()), name)
    out.show(profile, render_profile(profile))
