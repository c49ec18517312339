"""The Hub in use: its client, its token, and the command that may ask it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx2
import huggingface_hub
import pytest

from launcher.errors import TryAgain
from launcher.models.hub.endpoint import (
    HUB_PATIENCE_S,
    Endpoint,
    endpoint_in_use,
    online,
    open_session,
    within,
)
from tests.fakes.hub import FakeHub


@pytest.mark.parametrize("elsewhere", ["storage_url", "the public Hub"])
def test_the_token_stays_at_its_own_origin_even_when_handed_over(
    hub: FakeHub, endpoint: Endpoint, elsewhere: str
) -> None:
    """The library sends the headers it has to the Hub's other names; the client takes the token off."""
    sent: list[httpx2.Request] = []
    session = open_session(replace(endpoint, token="hf_secret"))
    url = hub.storage_url if elsewhere == "storage_url" else "https://huggingface.co"
    (hook,) = session.event_hooks["request"]
    for target in (f"{hub.url}/x", f"{url}/x"):
        sent.append(session.build_request("GET", target, headers={"Authorization": "Bearer hf_secret"}))
        hook(sent[-1])
    assert [request.headers.get("authorization") for request in sent] == ["Bearer hf_secret", None]


def test_every_request_has_a_timeout(endpoint: Endpoint) -> None:
    session = open_session(endpoint)
    (hook,) = session.event_hooks["request"]
    unlimited = session.build_request("GET", endpoint.url, timeout=None)
    limited = session.build_request("GET", endpoint.url, timeout=3)
    hook(unlimited)
    hook(limited)
    assert [request.extensions["timeout"]["read"] for request in (unlimited, limited)] == [HUB_PATIENCE_S, 3]


def test_the_library_says_which_hub_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://mirror.example/hf")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    found = endpoint_in_use()
    assert found == Endpoint(
        url="https://mirror.example/hf", token="hf_x", cache_dir=Path("/cache"), offline=True
    )
    assert (found.host, found.library_token) == ("mirror.example/hf", "hf_x")
    assert replace(found, token=None).library_token is False


def test_an_attempt_is_given_up_in_time(hub: FakeHub) -> None:
    assert within(5, lambda: 7, host="h") == 7
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0, host="h")
    with pytest.raises(TryAgain, match=r"h did not answer within 0\.05 s"):
        within(0.05, hub.released.wait, host="h")


def test_flags_of_llama_server_stay_in_the_command_that_may_ask() -> None:
    assert online("launcher up m --offline -- --offline -ub 64") == "launcher up m -- --offline -ub 64"
