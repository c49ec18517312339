"""The commands `ls` and `rm`."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.options import unfolded
from launcher.cli.show.output import Output
from launcher.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from launcher.models.kept.stored_model import StoredModel
    from launcher.models.store import HubStore
    from launcher.system.settings import Settings


def register(app: typer.Typer) -> None:
    """Hang the commands on the app."""
    for command in (ls, rm):
        app.command()(unfolded(command))


def ls(out: Output) -> None:
    """List the models that are here: size, whole or partial, last used, in whose store."""
    from launcher.cli.show import tables
    from launcher.system.settings import read_settings

    kept = _kept(read_settings())[0]
    out.show(kept, tables.kept(kept, now=time.time()))


def rm(
    names: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="As launcher ls names it; without a quant, all of them."),
    ],
    out: Output,
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="Do not ask; needed where nobody can be asked.")
    ] = False,
) -> None:
    """Remove models from the store, and free what nothing else uses."""
    from rich.text import Text

    from launcher.models.catalogue import read_profiles
    from launcher.models.kept.list import pick_stored
    from launcher.models.kept.remove import remove_stored
    from launcher.models.profiles.profile import quants_to_try
    from launcher.system.settings import read_settings
    from launcher.units import format_bytes

    settings = read_settings()
    kept, store = _kept(settings)
    profiles = {one.name.lower(): one for one in read_profiles(settings).usable}
    chosen: list[StoredModel] = []
    for name in names:
        profile = profiles.get(name.partition(":")[0].lower())
        quants = quants_to_try(profile, name.partition(":")[2] or None) if profile else ()
        files = [Path(quant.wheel.member).stem for quant in quants if quant.wheel]
        chosen += pick_stored(kept, [name, *(f"{quant.repo}:{quant.label}" for quant in quants), *files])
    chosen = list({(one.folder, one.name, one.paths): one for one in chosen}.values())
    _refuse_in_use(chosen, settings)
    listed = ", ".join(dict.fromkeys(one.name for one in chosen))
    size = format_bytes(sum(one.here_bytes for one in chosen))
    if not (yes or out.interactive):
        typed = " ".join(shlex.quote(name) for name in names)
        raise UsageError(
            f"{listed}, {size}: nobody can be asked whether to remove it", hint=f"launcher rm {typed} -y"
        )
    if not out.confirm(yes=yes)(f"Remove {listed}, {size}?"):
        raise Interrupted("nothing was removed", hint="answer y, or give -y")
    freed = sum(remove_stored(one, store) for one in chosen)
    out.show(
        {"removed": [one.name for one in chosen], "freed_bytes": freed},
        Text(f"removed {listed}: {format_bytes(freed)} freed"),
    )


def _kept(settings: Settings) -> tuple[tuple[StoredModel, ...], HubStore]:
    from launcher.models.hub.endpoint import endpoint_in_use
    from launcher.models.kept.list import list_stored, stores_here
    from launcher.models.store import store_of

    stores = stores_here(endpoint_in_use().cache_dir, settings.models_dir)
    store = store_of(settings)
    return list_stored(stores, store), store


def _refuse_in_use(chosen: list[StoredModel], settings: Settings) -> None:
    """A running server would go on with a file without a name, and not come up again."""
    from launcher.deployment.record import Deployment
    from launcher.deployment.records import read_all
    from launcher.deployment.status import DeploymentState, read_status

    files = {path.resolve(): one.name for one in chosen for path in one.paths}
    for entry in read_all(settings.deployments_dir):
        if isinstance(entry, Deployment) and read_status(entry).state is DeploymentState.RUNNING:
            loaded = (entry.model_path, *(word for word in entry.argv if word.startswith("/")))
            used = next((one for word in loaded if (one := Path(word).resolve()) in files), None)
            if used is not None:
                raise UsageError(
                    f"{files[used]} is in use by the deployment {entry.name}",
                    hint=f"launcher stop {entry.name}",
                )
