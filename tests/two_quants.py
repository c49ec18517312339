"""A repo with two quants, pulled and listed."""

from __future__ import annotations

from pathlib import Path

from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.kept.list import Stores, list_stored
from launcher.models.kept.stored_model import StoredModel
from launcher.models.located import Located, PullOptions
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import HubStore
from tests.fakes.hub import FakeHub
from tests.pulling import QUICK
from tests.tiny_gguf import tiny_gguf, tiny_split

REPO = "user/repo"
SHARDS = tiny_split("Q4/big-Q4_K_M", 2, n_values=100_000)
OTHER = tiny_gguf(seed=9, n_values=50_000)
OPTIONS = PullOptions(tuning=QUICK)


def locate(hub: FakeHub, endpoint: Endpoint, store: HubStore, quant: str = "Q4_K_M") -> Located:
    if REPO not in hub.repos:
        hub.publish(REPO, {**SHARDS, "big-Q8_0.gguf": OTHER})
    ref = ModelRef(kind=RefKind.HUB, name=REPO, quant=quant)
    found = open_repo(ref, endpoint=endpoint, store=store)
    hub.seen.clear()
    return found


def stores(endpoint: Endpoint, tmp_path: Path) -> Stores:
    return Stores(hub_cache=endpoint.cache_dir, models_dir=tmp_path / "models", ollama=(tmp_path / "ollama",))


def listed(endpoint: Endpoint, store: HubStore, tmp_path: Path) -> dict[str, StoredModel]:
    return {one.name: one for one in list_stored(stores(endpoint, tmp_path), store)}
