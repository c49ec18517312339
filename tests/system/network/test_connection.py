"""Whom a token goes to, and proxies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.located import Located
from launcher.models.store import HubStore
from tests.fakes.hub import FakeHub
from tests.two_quants import OPTIONS, OTHER, REPO, SHARDS, locate


@pytest.fixture
def located(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> Located:
    return locate(hub, endpoint, store)


def test_the_token_goes_to_the_hub_and_not_to_its_storage(
    hub: FakeHub, endpoint: Endpoint, store: HubStore
) -> None:
    hub.token = "hf_secret"
    hub.publish(REPO, {**SHARDS, "big-Q8_0.gguf": OTHER})
    hub.repos[REPO].private = True
    known = replace(endpoint, token="hf_secret")
    fetch_hub_files(locate(hub, known, store), endpoint=known, store=store, options=OPTIONS)
    sent = {(seen.host, seen.authorization) for seen in hub.seen}
    assert sent == {("hub", "Bearer hf_secret"), ("storage", None)}


def test_downloads_go_through_the_proxy_of_the_environment(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host name is known to the proxy only (here the storage host itself); NO_PROXY excepts loopback."""
    monkeypatch.setenv("http_proxy", hub.storage_url.replace("http://", "http://me:pw@"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    hub.storage_url = "http://storage.test"
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert list(SHARDS.values()) == [path.read_bytes() for path in paths]
    assert {True} == {seen.path.startswith("http://storage.test/") for seen in hub.asked("storage")}
