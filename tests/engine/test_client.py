from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.deployment.identity import ProcessId
from launcher.deployment.ports import free_port
from launcher.engine.client import (
    Props,
    generate_token,
    is_loaded,
    list_model_ids,
    read_props,
)
from launcher.engine.key_file import read_api_key
from launcher.errors import EngineFailed, UsageError


@pytest.mark.timeout(60)
def test_a_stream_that_never_ends_has_produced_its_token(
    serve: Callable[..., tuple[str, ProcessId]],
) -> None:
    """As ik_llama.cpp's, where its only token is half a character."""
    url, _ = serve("--keep-streams-open")
    generate_token(url)


def test_the_key_is_sent(serve: Callable[..., tuple[str, ProcessId]], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# ours\n\nsk-1\nsk-2\n")
    url, _ = serve("--api-key-file", str(keys), "--alias", "mine")
    assert list_model_ids(url, api_key=read_api_key(keys)) == ("mine",)
    generate_token(url, api_key="sk-2")
    for call in (list_model_ids, read_props, generate_token):
        with pytest.raises(UsageError, match="llama-server refuses the API key: Invalid API Key"):
            call(url, api_key="wrong")


def test_the_server_describes_itself(serve: Callable[..., tuple[str, ProcessId]], tmp_path: Path) -> None:
    url, _ = serve("-c", "777", "-np", "3")
    path = str(tmp_path / "stub.gguf")
    assert read_props(url) == Props(n_ctx=777, n_slots=3, model_path=path, build="b0-fake")


def test_nobody_there_is_said() -> None:
    url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    assert is_loaded(url) is None
    with pytest.raises(EngineFailed, match=f"^nobody answers at {url}$"):
        list_model_ids(url)


@pytest.mark.parametrize("content", [None, b"", b"# only a comment\n", b"\xff\xfe"])
def test_a_key_file_without_a_key_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="the API key file"):
        read_api_key(path)
    assert read_api_key(None) is None


def test_proxies_of_the_environment_are_ignored(
    serve: Callable[..., tuple[str, ProcessId]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    url, _ = serve()
    assert len(list_model_ids(url)) == 1
