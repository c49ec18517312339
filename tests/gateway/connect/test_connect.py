"""The command: prints, writes with a backup, and asks as the program would."""

from __future__ import annotations

import contextlib
import http.server
import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from launcher.commands.here import here_with
from launcher.errors import EngineFailed, LauncherError, NotFound, TryAgain, UsageError
from launcher.gateway.ask_status import ask_gateway
from launcher.gateway.config import GatewayConfig, ModelConfig
from launcher.gateway.connect.ask import ask
from launcher.gateway.connect.clients import CLIENTS, Endpoint, Served
from launcher.gateway.connect.edit import snippet
from launcher.gateway.connect.file_contexts import with_file_contexts
from launcher.gateway.connect.write import find_endpoint, settings_file, write_settings
from tests.gateway.served import Gateway, Kind, serving
from tests.make_gguf import make_gguf


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with serving(tmp_path, {"a": Kind(), "b": Kind(), "broken": Kind(fails="it is cut short")}) as served:
        yield served


def test_a_file_is_written_with_a_backup_of_what_was_there(tmp_path: Path, gateway: Gateway) -> None:
    at = find_endpoint(gateway.url, None, "b")
    assert [model.name for model in at.models] == ["b", "a", "broken"]
    file = tmp_path / "deep" / "settings.json"
    fresh = write_settings(CLIENTS["claude-code"], at, file)
    assert fresh.backup is None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not write_settings(CLIENTS["claude-code"], at, file).changed
    old = file.read_text().replace("127.0.0.1", "elsewhere")
    file.write_text(old)
    file.chmod(0o644)
    again = write_settings(CLIENTS["claude-code"], at, file)
    assert again.backup is not None
    assert again.backup.read_text() == old
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert json.loads(file.read_text())["env"]["ANTHROPIC_BASE_URL"] == gateway.url


def test_a_file_that_cannot_be_edited_is_left_as_it_is(tmp_path: Path, gateway: Gateway) -> None:
    file = tmp_path / "settings.json"
    file.write_text("{ no json")
    with pytest.raises(UsageError, match="cannot be edited"):
        write_settings(CLIENTS["zed"], find_endpoint(gateway.url, None, None), file)
    assert file.read_text() == "{ no json"
    assert list(tmp_path.glob("*.bak")) == []


def test_litellm_gets_every_model(gateway: Gateway) -> None:
    at = find_endpoint(gateway.url, "a-key", "b")
    written = yaml.safe_load(snippet(CLIENTS["litellm"], at))
    assert [each["model_name"] for each in written["model_list"]] == ["b", "a", "broken"]
    assert written["model_list"][0]["litellm_params"] == {
        "model": "openai/b", "api_base": f"{gateway.url}/v1", "api_key": "a-key"
    }  # fmt: skip


def test_a_link_stays_a_link(tmp_path: Path, gateway: Gateway) -> None:
    (tmp_path / "dotfiles.json").write_text("{}")
    link = tmp_path / "settings.json"
    link.symlink_to("dotfiles.json")
    write_settings(CLIENTS["zed"], find_endpoint(gateway.url, None, None), link)
    assert link.is_symlink()
    assert "launcher" in (tmp_path / "dotfiles.json").read_text()


def test_one_question_is_asked_as_the_program_would(gateway: Gateway) -> None:
    asked = ask(CLIENTS["zed"], find_endpoint(gateway.url, None, "a"))
    assert asked.path == "/v1/chat/completions"
    assert asked.answer.startswith("Hello there")


def test_a_failed_load_is_the_answer(gateway: Gateway) -> None:
    with pytest.raises(EngineFailed, match="it is cut short"):
        ask(CLIENTS["aider"], find_endpoint(gateway.url, None, "broken"))


def test_no_gateway_is_said_and_a_named_model_needs_none() -> None:
    with pytest.raises(LauncherError, match="no gateway answers"):
        find_endpoint("http://127.0.0.1:9", None, None)
    assert find_endpoint("http://127.0.0.1:9", None, "m").first == "m"


def test_where_settings_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    assert settings_file(CLIENTS["codex"], None) == tmp_path / "launcher.config.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert settings_file(CLIENTS["zed"], None) == tmp_path / "config" / "zed" / "settings.json"
    monkeypatch.setattr("sys.platform", "darwin")
    assert "Application Support/Code/User" in str(settings_file(CLIENTS["vscode"], None))
    with pytest.raises(UsageError, match="no fixed place"):
        settings_file(CLIENTS["librechat"], None)


class Odd(http.server.BaseHTTPRequestHandler):
    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"[]", TryAgain), (b'{"data": null}', TryAgain), (b"[" * 200_000, TryAgain), (b" " * (64 << 20), TryAgain),
        (b"", TryAgain), (b'{"data": ["x", {"id": 5}, {}]}', NotFound),
    ],
    ids=["list", "null", "deep", "large", "nothing", "no models"],
)  # fmt: skip
def test_whoever_else_listens_there_is_no_gateway(
    body: bytes, error: type[LauncherError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Odd, "body", body)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            with pytest.raises(error):
                find_endpoint(url, None, None)
            assert ask_gateway(url, None) is None
            monkeypatch.setattr(Odd, "body", b'{"data": [{"id": "m", "status": "x"}]}')
            assert find_endpoint(url, None, None).first == "m"
        finally:
            server.shutdown()


def test_an_answer_that_trickles_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    class Trickling(Odd):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while not ended.wait(0.05):
                    self.wfile.write(b" ")

    monkeypatch.setattr("launcher.gateway.ask_status._ANSWER_S", 0.5)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trickling) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            assert ask_gateway(f"http://127.0.0.1:{server.server_port}", None) is None
        finally:
            ended.set()
            server.shutdown()


def test_a_model_that_is_not_loaded_has_the_context_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    for name, context in (("short", 2048), ("long", 262144)):
        make_gguf(tmp_path / f"{name}.gguf", "llama", numbers={"n_ctx": context}, hollow=True)
    models = {name: ModelConfig(ref=str(tmp_path / f"{name}.gguf")) for name in ("short", "long")}
    served = tuple(Served(name=name) for name in ("short", "long", "gone"))
    at = with_file_contexts(
        here_with(offline=True), GatewayConfig(models=models), Endpoint(url="", models=served)
    )
    assert [model.n_ctx for model in at.models] == [2048, 32768, None]
