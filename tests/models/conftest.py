"""A local Hub, and what the product needs to talk to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from launcher.models.hub.endpoint import Endpoint
from launcher.models.located import PullOptions
from launcher.models.store import HubStore
from tests.fakes.hub import FakeHub
from tests.make_gguf import make_gguf
from tests.pulling import QUICK, QUICK_READS
from tests.pulling_into_folder import Pulling
from tests.range_server import RangeServer, serve_ranges


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running:
        yield running
    huggingface_hub.close_session()


@pytest.fixture
def endpoint(hub: FakeHub, tmp_path: Path) -> Endpoint:
    return Endpoint(url=hub.url, token=None, cache_dir=tmp_path / "hf" / "hub", policy=QUICK_READS)


@pytest.fixture
def store(tmp_path: Path) -> HubStore:
    return HubStore(folder=tmp_path / "cache" / "hub")


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with serve_ranges() as running:
        yield running


@pytest.fixture
def tiny(server: RangeServer, tmp_path: Path) -> str:
    (path,) = make_gguf(tmp_path / "tiny-Q8_0.gguf", "llama")
    server.files[path.name] = path.read_bytes()
    return f"{server.url}/models/{path.name}"


@pytest.fixture
def split(server: RangeServer, tmp_path: Path) -> tuple[str, ...]:
    paths = make_gguf(tmp_path / "split-Q8_0.gguf", "llama", splits=3)
    server.files |= {path.name: path.read_bytes() for path in paths}
    return tuple(f"{server.url}/{path.name}" for path in paths)


@pytest.fixture
def pulling(hub: FakeHub, endpoint: Endpoint, store: HubStore, tmp_path: Path) -> Pulling:
    return Pulling(hub, endpoint, store, PullOptions(tuning=QUICK, folder=tmp_path / "plain"))
