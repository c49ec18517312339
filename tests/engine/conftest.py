from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.deployment.identity import ProcessId
from launcher.deployment.ports import free_port
from launcher.engine.client import is_loaded
from tests.serving import fake_command, running, stub_model, until


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., tuple[str, ProcessId]]]:
    """Start a fake engine with switches; its URL and process once it is loaded."""
    with contextlib.ExitStack() as stack:

        def start(*switches: str) -> tuple[str, ProcessId]:
            port = free_port("127.0.0.1")
            command = fake_command("-m", str(stub_model(tmp_path)), "--port", str(port), *switches)
            process = stack.enter_context(running(*command, log=tmp_path / "engine.log"))
            url = f"http://127.0.0.1:{port}"
            until(lambda: is_loaded(url))
            return url, process

        yield start
