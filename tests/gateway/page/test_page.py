"""What the page is, without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.gateway.guard import Doors
from launcher.gateway.page.page import content_policy, page
from tests.gateway.served import Gateway, Kind, fetch, serving

HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with serving(tmp_path, {"a": Kind()}) as served:
        yield served


def test_a_browser_gets_the_page_and_others_what_ollama_says(gateway: Gateway) -> None:
    status, body = fetch(f"{gateway.url}/", HTML)
    assert status == 200
    assert body.startswith(b"<!doctype html>")
    assert fetch(f"{gateway.url}/") == (200, b"Ollama is running")


def test_the_page_names_no_other_place() -> None:
    text = page().body.decode()
    assert not re.search(r"https?://|(?:src|href)=[\"'](?!data:)|@import|url\(", text)


def test_no_text_becomes_markup() -> None:
    text = page().body.decode()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text
    )
    # attributes that the policy would refuse
    assert not re.search(r"<[a-z]+[^>]*\son[a-z]+=|<[a-z]+[^>]*\sstyle=", text)


def test_the_policy_knows_the_script_by_its_hash() -> None:
    text = page().body.decode()
    policy = dict(page().headers)[b"content-security-policy"].decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert content_policy(text.replace('"use strict"', "")) != policy


def test_another_page_cannot_load_a_model(gateway: Gateway) -> None:
    command = f"{gateway.url}/gateway/models/a/load"
    assert fetch(command, {"Origin": "https://elsewhere.example"}, b"")[0] == 403
    assert fetch(command, {"Host": "rebound.example"}, b"")[0] == 403
    assert fetch(f"{gateway.url}/", {**HTML, "Host": "rebound.example"})[0] == 403
    assert gateway.deployments.starts == []


def test_where_a_key_is_needed_the_page_comes_without_and_shows_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind()}, doors=Doors(needs_key=True)) as gateway:
        assert fetch(f"{gateway.url}/", HTML)[0] == 200
        assert fetch(f"{gateway.url}/gateway/status")[0] == 401
