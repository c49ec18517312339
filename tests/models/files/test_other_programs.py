"""Files that other programs have on this machine."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.models.files import other_programs
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.kept.list import stores_here
from launcher.models.located import Located
from launcher.models.store import HubStore
from tests.fakes.hub import FakeHub
from tests.two_quants import OPTIONS, SHARDS, locate


@pytest.fixture
def located(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> Located:
    return locate(hub, endpoint, store)


def test_a_folder_with_blobs_of_its_own_is_searched(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """`blobs` alone does not make it Ollama's."""
    folder = tmp_path / "mine"
    (folder / "blobs").mkdir(parents=True)
    for name, content in SHARDS.items():
        (folder / Path(name).name).write_bytes(content)
    paths = fetch_hub_files(
        located, endpoint=endpoint, store=store, options=replace(OPTIONS, look_in=(folder,))
    )
    assert (list(SHARDS.values()), []) == ([path.read_bytes() for path in paths], hub.seen)


@pytest.mark.parametrize("where", [".ollama/models/blobs/sha256-{}", ".lmstudio/models/u/r/x-{:.3}.gguf"])
def test_stores_of_other_programs_are_looked_into(
    *,
    hub: FakeHub,
    located: Located,
    endpoint: Endpoint,
    store: HubStore,
    clean_environment: Path,
    where: str,
) -> None:
    for content in SHARDS.values():
        path = clean_environment / where.format(hashlib.sha256(content).hexdigest())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert (list(SHARDS.values()), []) == ([path.read_bytes() for path in paths], hub.seen)


def test_a_folder_of_ollamas_with_two_names_is_one(
    *, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "named").symlink_to(tmp_path / "service")
    monkeypatch.setattr(other_programs, "_OLLAMA_SERVICE", tmp_path / "service")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "named"))
    assert stores_here(endpoint.cache_dir, tmp_path / "models").ollama == (tmp_path / "named",)
    assert other_programs.other_stores(endpoint.cache_dir).count(tmp_path / "named") == 1
    assert tmp_path / "service" not in other_programs.other_stores(endpoint.cache_dir)
