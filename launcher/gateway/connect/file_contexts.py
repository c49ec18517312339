"""Learn from the files of models that are not loaded how long a context they are made for."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace

from launcher.commands.here import Here
from launcher.commands.inspect import inspect
from launcher.errors import LauncherError
from launcher.gateway.catalogue import Servable, read_servables
from launcher.gateway.config import GatewayConfig
from launcher.gateway.connect.clients import MOST_UNPLANNED, Endpoint
from launcher.gguf.architecture_keys import ArchitectureKeys
from launcher.progress import silent


def with_file_contexts(here: Here, config: GatewayConfig, at: Endpoint) -> Endpoint:
    """Fill in the contexts that the gateway does not know, for models whose files are on this machine."""
    if all(model.n_ctx for model in at.models):
        return at
    files = {servable.name: servable for servable in read_servables(here.settings, here.sources, config)}
    models = (
        model if model.n_ctx else replace(model, n_ctx=_trained(here, files, model.name))
        for model in at.models
    )
    return replace(at, models=tuple(models))


def _trained(here: Here, files: Mapping[str, Servable], name: str) -> int | None:
    servable = files.get(name)
    if servable is None:
        return None
    with contextlib.suppress(LauncherError, OSError):  # a file that cannot be read tells nothing
        located = inspect(here, servable.ref).candidates[0].open(silent)
        trained = ArchitectureKeys(located.model.metadata).number("context_length")
        return trained and min(trained, MOST_UNPLANNED)
    return None
