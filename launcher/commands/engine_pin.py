"""Find the engine that a model is to run with: named by the command, by config.toml, or by its profile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.commands.here import Here
from launcher.commands.planned import PlanRequest
from launcher.engine.find import Engine, engine_named
from launcher.errors import NotFound, UsageError
from launcher.models.catalogue import Target
from launcher.system.json_object import JsonObject, Malformed
from launcher.system.settings import Settings, read_config


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """An engine's name, or its beginning, for one model."""

    engine: str
    model: str  # a REF, or a profile's name
    where: str  # who says so, in words


def with_pin(here: Here, request: PlanRequest, target: Target) -> PlanRequest:
    """Return the request with the engine that is pinned to its model, unless it names one.

    Raises NotFound if that is not here, UsageError for a config file that cannot be read.
    """
    if request.engine is not None:
        return replace(request, pinned_by="as --engine says")
    pin = next((pin for pin in pins(here) if pin.model in _names(request.ref, target)), None)
    if pin is None:
        return request
    engine = engine_named(here.settings.engines_dir, pin.engine)
    if engine is None:
        raise NotFound(
            f"{pin.where} wants the engine {pin.engine} for {request.ref}, and none is called so",
            hint="launcher engine list",
        )
    return replace(request, engine=engine.path, pinned_by=f"as {pin.where} says")


def pins(here: Here) -> Iterator[Pin]:
    """List the pins of config.toml, then those of profiles."""
    yield from _configured(here.settings)
    for profile in here.sources.profiles.usable:
        if profile.engine is not None:
            yield Pin(engine=profile.engine, model=profile.name, where=f"the profile {profile.name}")


def pins_of(here: Here, engine: Engine) -> tuple[Pin, ...]:
    """List the pins that name this engine, and no other that is here."""
    folder = here.settings.engines_dir
    found = []
    for pin in pins(here):
        try:
            named = engine_named(folder, pin.engine)
        except UsageError:  # several: another one is left
            continue
        if named is not None and named.folder == engine.folder:
            found.append(pin)
    return tuple(found)


def _names(ref: str, target: Target) -> set[str]:
    profile = target.profile.name if target.profile else None
    return {name for name in (ref, ref.partition(":")[0], target.model_id, profile) if name}


def _configured(settings: Settings) -> Iterator[Pin]:
    file = settings.config_file
    try:
        root = JsonObject(read_config(file))
        models = root.object_at("models") if root.has("models") else JsonObject({})
        for name in root.mapping("models") if root.has("models") else {}:
            given = models.object_at(name)
            if given.has("engine"):
                model = given.optional_text("ref") or name
                yield Pin(engine=given.text("engine"), model=model, where=f"[models.{name}] of {file.name}")
    except Malformed as error:
        raise UsageError(f"config file {file}: {error}", hint=f"mend {file}") from error


def describe_pin(engine: Engine | None, pinned_by: str | None) -> tuple[str, ...]:
    """Say which engine it is, where somebody has chosen one for this model."""
    if engine is None or pinned_by is None:
        return ()
    name = engine.folder.name if engine.build else Path(engine.path)
    return (f"engine {name}, {pinned_by}",)
