"""The gateway's status in a terminal."""

from __future__ import annotations

import io
from pathlib import Path

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
