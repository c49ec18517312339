"""The command `ls`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from launcher.cli.show.output import Output

if TYPE_CHECKING:
    from launcher.models.kept.stored_model import StoredModel
    from launcher.models.store import HubStore
    from launcher.system.settings import Settings


def ls(out: Output) -> None:
    """List the models that are here: size, whole or partial, last used, in whose store."""
    from launcher.cli.show.stored_models import render_stored_models
    from launcher.system.settings import read_settings

    models, _store = list_models_here(read_settings())
    out.show(models, render_stored_models(models, now=time.time()))


def list_models_here(settings: Settings) -> tuple[tuple[StoredModel, ...], HubStore]:
    """List the models in all stores of this machine; return them with the store that launcher fills."""
    from launcher.models.hub.endpoint import endpoint_in_use
    from launcher.models.kept.list import list_stored, stores_here
    from launcher.models.store import store_of
    from launcher.system.settings import own_folders

    stores = stores_here(endpoint_in_use().cache_dir, settings.models_dir, own_folders(settings))
    store = store_of(settings)
    return list_stored(stores, store), store
