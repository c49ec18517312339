"""What is listed of the stores of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import NotFound, UsageError
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.kept.list import list_stored, pick_stored
from launcher.models.kept.remove import remove_stored
from launcher.models.located import Located
from launcher.models.store import HubStore
from launcher.progress import Step
from tests.fakes.hub import FakeHub, Fault
from tests.pulling import UNIT
from tests.two_quants import OPTIONS, OTHER, REPO, SHARDS, listed, locate, stores


@pytest.fixture
def located(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> Located:
    return locate(hub, endpoint, store)


def test_whole_and_partial_models_are_listed(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    assert listed(endpoint, store, tmp_path) == {}
    fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    q8 = locate(hub, endpoint, store, "Q8_0")

    def stop(step: Step) -> None:
        if step.file and step.done > UNIT:
            raise KeyboardInterrupt

    hub.faults.append(Fault(bytes_per_s=400_000, match="Q8_0"))
    with pytest.raises(KeyboardInterrupt):
        fetch_hub_files(q8, endpoint=endpoint, store=store, options=OPTIONS, on_progress=stop)
    kept = listed(endpoint, store, tmp_path)
    size = sum(map(len, SHARDS.values()))
    whole, part = kept[f"{REPO}:Q4_K_M"], kept[f"{REPO}:Q8_0"]
    assert (whole.is_whole, whole.here_bytes, whole.size_bytes) == (True, size, size)
    assert (part.is_whole, part.size_bytes) == (False, len(OTHER))
    assert UNIT <= part.here_bytes < len(OTHER)
    assert remove_stored(part, store) > 0
    assert list(listed(endpoint, store, tmp_path)) == [f"{REPO}:Q4_K_M"]


def test_ollamas_models_are_listed_and_not_removed(
    endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    digest = hashlib.sha256(OTHER).hexdigest()
    manifests = tmp_path / "ollama/manifests/registry.ollama.ai/library/tiny"
    manifests.mkdir(parents=True)
    layer = {
        "mediaType": "application/vnd.ollama.image.model",
        "digest": f"sha256:{digest}",
        "size": len(OTHER),
    }
    (manifests / "1b").write_text(json.dumps({"layers": [layer]}))
    (manifests / "broken").write_text("{")
    blob = tmp_path / "ollama/blobs" / f"sha256-{digest}"
    blob.parent.mkdir()
    blob.write_bytes(OTHER)
    kept = list_stored(stores(endpoint, tmp_path), store)
    assert [(one.name, one.store, one.is_whole) for one in kept] == [("tiny:1b", "ollama", True)]
    with pytest.raises(UsageError, match="belongs to ollama"):
        pick_stored(kept, ["tiny"])
    with pytest.raises(NotFound, match="there is no huge"):
        pick_stored(kept, ["huge"])


def test_last_used_is_the_last_start_where_the_file_system_does_not_know(
    *, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """As with noatime; and verifying a file is no use of it."""
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    for path in paths:
        os.utime(path, (1000.0, path.stat().st_mtime))
    fetch_hub_files(located, endpoint=endpoint, store=store, options=replace(OPTIONS, verify=True))
    assert listed(endpoint, store, tmp_path)[f"{REPO}:Q4_K_M"].used_at == 1000.0
    before = time.time()
    store.keep_used(paths[0])
    used_at = listed(endpoint, store, tmp_path)[f"{REPO}:Q4_K_M"].used_at
    assert used_at is not None
    assert before <= used_at <= time.time()
