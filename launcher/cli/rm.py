"""The command `rm`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.ls import list_models_here
from launcher.cli.show.output import Output
from launcher.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from launcher.models.kept.stored_model import StoredModel
    from launcher.models.profiles.profile import ModelProfile
    from launcher.system.settings import Settings


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
    from launcher.cli.show.tables import line
    from launcher.models.catalogue import read_profiles
    from launcher.models.kept.list import pick_stored
    from launcher.models.kept.remove import remove_stored
    from launcher.system.settings import read_settings
    from launcher.units import format_bytes

    settings = read_settings()
    models, store = list_models_here(settings)
    profiles = {profile.name.lower(): profile for profile in read_profiles(settings).usable}
    picked = [model for name in names for model in pick_stored(models, _names_meant(name, profiles))]
    # two names may mean the same model
    chosen = list({(model.folder, model.name, model.paths): model for model in picked}.values())
    _refuse_in_use(chosen, settings)
    _ask(names, chosen, out, yes=yes)
    freed = sum(remove_stored(model, store) for model in chosen)
    out.show(
        {"removed": [model.name for model in chosen], "freed_bytes": freed},
        line(f"removed {_listed(chosen)}: {format_bytes(freed)} freed"),
    )


def _names_meant(name: str, profiles: dict[str, ModelProfile]) -> Iterator[str]:
    """Yield all that the files of `name` may be listed as; `name` may be a profile's."""
    from launcher.models.profiles.profile import quants_to_try

    word, _, quant_name = name.partition(":")
    profile = profiles.get(word.lower())
    quants = quants_to_try(profile, quant_name or None) if profile else ()
    yield name
    yield from (f"{quant.repo}:{quant.label}" for quant in quants)
    yield from (Path(quant.wheel.member).stem for quant in quants if quant.wheel)


def _refuse_in_use(models: Sequence[StoredModel], settings: Settings) -> None:
    """Raise UsageError if a running deployment has loaded one of the models."""
    from launcher.deployment.record import Deployment
    from launcher.deployment.records import read_all
    from launcher.deployment.status import DeploymentState, read_status

    # its server would go on with a file that has no name, and not come up again
    names = {path.resolve(): model.name for model in models for path in model.paths}
    for entry in read_all(settings.deployments_dir):
        if isinstance(entry, Deployment) and read_status(entry).state is DeploymentState.RUNNING:
            loaded = (entry.model_path, *(word for word in entry.argv if word.startswith("/")))
            used = next((path for word in loaded if (path := Path(word).resolve()) in names), None)
            if used is not None:
                raise UsageError(
                    f"{names[used]} is in use by the deployment {entry.name}",
                    hint=f"launcher stop {entry.name}",
                )


def _ask(names: Sequence[str], models: Sequence[StoredModel], out: Output, *, yes: bool) -> None:
    """Ask whether to remove the models. Raises Interrupted for a no, UsageError if nobody can be asked."""
    from launcher.units import format_bytes

    size = format_bytes(sum(model.here_bytes for model in models))
    if not (yes or out.interactive):
        typed = " ".join(shlex.quote(name) for name in names)
        raise UsageError(
            f"{_listed(models)}, {size}: nobody can be asked whether to remove it",
            hint=f"launcher rm {typed} -y",
        )
    if not out.confirm(yes=yes)(f"Remove {_listed(models)}, {size}?"):
        raise Interrupted("nothing was removed", hint="-y")


def _listed(models: Sequence[StoredModel]) -> str:
    return ", ".join(dict.fromkeys(model.name for model in models))
