"""The Hub in use: its client, its token, and the command that may ask it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest

from launcher.errors import TryAgain
from launcher.models.hub.endpoint import Endpoint, endpoint_in_use, online, within
from tests.fakes.hub import FakeHub


def test_the_library_says_which_hub_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://mirror.example/hf")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    found = endpoint_in_use()
    assert found == Endpoint(url="https://mirror.example/hf", token="hf_x", cache_dir=Path("/cache"))
    assert found.host == "mirror.example/hf"
    assert found.authorization == (("Authorization", "Bearer hf_x"),)
    assert replace(found, token=None).authorization == ()
    assert replace(found, url="https://me:secret@mirror.example").host == "mirror.example"
    # who is not asked is told no token
    silent = replace(found, token=None, offline=True)
    assert endpoint_in_use(offline=True) == silent
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert endpoint_in_use() == silent


def test_an_attempt_is_given_up_in_time(hub: FakeHub) -> None:
    assert within(5, lambda: 7, host="h") == 7
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0, host="h")
    with pytest.raises(TryAgain, match=r"h did not answer within 0\.05 s"):
        within(0.05, hub.released.wait, host="h")


def test_flags_of_llama_server_stay_in_the_command_that_may_ask() -> None:
    assert online("launcher up m --offline -- --offline -ub 64") == "launcher up m -- --offline -ub 64"
