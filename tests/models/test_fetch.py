"""Files of a located model, from whichever place they are in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.models.catalogue import Sources, resolve
from launcher.models.fetch import fetch
from launcher.models.hub.endpoint import Endpoint
from launcher.models.located import PullOptions
from launcher.models.profiles.profile import Profiles
from launcher.models.store import HubStore
from launcher.progress import silent
from tests.pulling import QUICK
from tests.range_server import serve_ranges
from tests.tiny_gguf import tiny_gguf


@pytest.fixture
def offline(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, offline=True)


def options(folder: Path, again: str = "") -> PullOptions:
    return PullOptions(tuning=QUICK, folder=folder, again=again)


def test_what_a_url_brought_into_a_folder_is_found_there(
    offline: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """A file of that name that something else left in a folder is not it."""
    sources = Sources(
        endpoint=offline, store=store, models_dir=tmp_path / "models", profiles=Profiles(usable=(), broken=())
    )
    asking = replace(sources, endpoint=replace(offline, offline=False))
    mine, other = tmp_path / "mine", tmp_path / "other"
    with serve_ranges() as server:
        server.files["tiny-Q8_0.gguf"] = tiny_gguf(n_values=2000)
        url = f"{server.url}/tiny-Q8_0.gguf"
        paths = fetch(resolve(url, None, asking).candidates[0].open(silent), asking, silent, options(mine))
    other.mkdir()
    (other / "tiny-Q8_0.gguf").write_bytes(tiny_gguf(seed=2, n_values=2000))
    store.keep_folders([other])
    found = resolve(f"{url}?sig=2", None, sources).candidates[0].open(silent)
    assert fetch(found, sources, silent, options(mine)) == paths == (mine / "tiny-Q8_0.gguf",)
