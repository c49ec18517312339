"""A local Hub, and what the product needs to talk to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from launcher.models.hub.endpoint import Endpoint
from launcher.models.store import HubStore
from tests.fakes.hub import FakeHub


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running:
        yield running
    huggingface_hub.close_session()


@pytest.fixture
def endpoint(hub: FakeHub, tmp_path: Path) -> Endpoint:
    return Endpoint(url=hub.url, token=None, cache_dir=tmp_path / "hf" / "hub", patience_s=5)


@pytest.fixture
def store(tmp_path: Path) -> HubStore:
    return HubStore(folder=tmp_path / "cache" / "hub")
