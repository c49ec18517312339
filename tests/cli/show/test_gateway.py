"""The gateway's status in a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from launcher.cli.show.gateway import render_gateway
from launcher.gateway.ask_status import ask_gateway
from tests.gateway.served import Kind, serving, until
from tests.gateway.test_serving import chat, fetch


def test_it_shows_memory_models_requests_and_what_failed(tmp_path: Path) -> None:
    kinds = {"a": Kind(0.5), "broken": Kind(fails="it is [red]cut[/red] short")}
    with serving(tmp_path, kinds) as gateway:
        chat(gateway, "a")
        fetch(f"{gateway.url}/gateway/models/broken/load", {}, b"")
        until(lambda: gateway.keeper.state.models["broken"].failure is not None)
        until(lambda: len(gateway.app.counters.answered) == 1)
        status = ask_gateway(gateway.url, None)
    assert status is not None
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(render_gateway(status, gateway.url))
    text = console.export_text()
    assert "██████████" in text
    assert "512.0 MiB of 2.0 GiB" in text
    assert "it is [red]cut[/red] short" in text
    assert "a /v1/chat/completions" in text
    assert "100.0" in text


def test_nothing_is_said_of_what_is_no_gateway() -> None:
    assert ask_gateway("http://127.0.0.1:9", None) is None


MODEL = {
    "model": "m", "needs_bytes": {"ram": 10**18}, "state": "ready", "progress": "", "problem": None, "pinned": False,
    "active": 0, "slots": 1, "idle_s": None, "node": None, "replica_of": None, "draining": False,
}  # fmt: skip
STATUS = {
    "schema": 1, "waiting": 0, "loads": 1, "models": [MODEL], "requests": [], "answered": [],
    "memory": {"ram": {"name": "RAM", "capacity_bytes": 1, "held_bytes": 1}},
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"models": None},
        {"models": [1]},
        {"memory": []},
        {"waiting": "\x1b[31m"},
        {"requests": [{}]},
        {"models": [{}]},
    ],
)
def test_whatever_answers_there_is_shown_as_no_gateway(change: dict[str, object]) -> None:
    assert "is no gateway of this version" in shown({**STATUS, **change})


def test_absurd_figures_and_escapes_are_shown_in_their_columns() -> None:
    odd = {**MODEL, "progress": "\x1b[31m\nhint: run this"}
    text = shown({**STATUS, "models": [odd]})
    assert len(text) < 1000
    assert "\x1b" not in text
    assert "\nhint" not in text


def shown(status: dict[str, object]) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(render_gateway(status, "http://127.0.0.1:1"))
    return captured.get()
