"""Other programs' settings: what is put in is there, and nothing of the user's is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.gateway.connect.clients import CLIENTS, Client, Endpoint, Form, Served, curl_line
from launcher.gateway.connect.edit import CannotEdit, edited, parse, snippet
from launcher.gateway.connect.jsonc import plain, with_value

AT = Endpoint(
    url="http://127.0.0.1:8080",
    models=(Served(name="kimi-k2.5", n_ctx=131072), Served(name="smollm2:instruct")),
)
WRITTEN = [client for client in CLIENTS.values() if client.form is not Form.SHELL]

ZED = """// Zed settings
//
{
  "theme": "One Dark", // the dark one
  "language_models": {
    /* mine */
    "ollama": { "api_url": "http://localhost:11434" },
  },
  "vim_mode": true,
}
"""
CONTINUE = """# my Continue
name: Mine
version: 1.0.0
schema: v1
models:
  # the big one
  - name: GPT
    provider: openai
    model: gpt-5
rules:
  - Be brief   # please
"""
LIBRECHAT = """version: 1.2.8
cache: true
endpoints:
  agents:
    recursionLimit: 50
  custom:
    - name: "Mistral"
      apiKey: "${MISTRAL_API_KEY}"
      baseURL: "https://api.mistral.example/v1"
"""


def client(name: str) -> Client:
    return CLIENTS[name]


@pytest.mark.parametrize("each", WRITTEN, ids=lambda each: each.name)
def test_what_is_written_is_read_back_and_writing_again_changes_nothing(each: Client) -> None:
    text = snippet(each, AT)
    assert json.dumps(parse(each.form, text)).count("127.0.0.1:8080") >= 1
    assert edited(each, AT, text) == text


@pytest.mark.parametrize("each", WRITTEN, ids=lambda each: each.name)
def test_another_model_takes_the_place_of_the_first(each: Client) -> None:
    other = Endpoint(url="http://127.0.0.1:9", models=(Served(name="other"),), key="sk-1")
    said = json.dumps(parse(each.form, edited(each, other, snippet(each, AT))))
    assert "127.0.0.1:9" in said
    assert each.form is Form.ENV or "other" in said
    if each.name != "continue":  # there a model has a name of its own
        assert "127.0.0.1:8080" not in said


@pytest.mark.parametrize(
    ("name", "text"),
    [("zed", ZED), ("claude-code", ZED), ("opencode", ZED), ("continue", CONTINUE), ("librechat", LIBRECHAT)],
)
def test_every_line_of_the_user_stays(name: str, text: str) -> None:
    after = edited(client(name), AT, text)
    lines = iter(after.splitlines())
    for line in text.splitlines():  # in the same order
        assert any(line in new for new in lines), line


def test_comments_stay_and_the_rest_is_as_it_was() -> None:
    said = json.loads(plain(edited(client("zed"), AT, ZED)))
    assert said["language_models"]["ollama"] == {"api_url": "http://localhost:11434"}
    assert said["language_models"]["openai_compatible"]["launcher"]["api_url"] == "http://127.0.0.1:8080/v1"
    assert said["vim_mode"] is True


def test_a_list_keeps_its_other_items() -> None:
    said = yaml.safe_load(edited(client("continue"), AT, CONTINUE))
    names = [model["name"] for model in said["models"]]
    assert names == ["launcher kimi-k2.5", "launcher smollm2:instruct", "GPT"]
    assert said["rules"] == ["Be brief"]
    group = [{"name": "mine", "vendor": "ollama", "url": "http://localhost:11434"}]
    said = json.loads(edited(client("vscode"), AT, json.dumps(group)))
    assert said[1:] == group
    assert said[0]["vendor"] == "customendpoint"


def test_env_lines_of_others_stay() -> None:
    after = edited(client("open-webui"), AT, "# mine\nWEBUI_NAME=x\nexport OPENAI_API_KEY=old\n")
    assert after.startswith("# mine\nWEBUI_NAME=x\nOPENAI_API_KEY=none\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("zed", "{"),
        ("zed", "[]"),
        ("zed", '{"language_models": 3}'),
        ("claude-code", '{"env": [1]}'),
        ("continue", "models: {a: 1}"),
        ("continue", "- a"),
        ("continue", "models: [{name: x}]"),
        ("librechat", "a: &x [*x]"),
        ("aider", "model: [1,\n 2]"),
        ("vscode", "[1, /* mine */ 2]"),
        ("codex", "model = "),
        ("zed", "{" * 4000),
        ("zed", '{"a":' * 4000),
    ],
)
def test_what_cannot_be_edited_without_a_loss_is_refused(name: str, text: str) -> None:
    with pytest.raises(CannotEdit):
        edited(client(name), AT, text)


def test_a_name_with_quotes_is_a_word_of_the_line() -> None:
    line = curl_line(Endpoint(url="http://127.0.0.1:1", models=(Served(name="a'\"; rm -rf ~"),)))
    assert line.count("; rm") == 1
    assert "'\"'\"'" in line


KEYS = st.sampled_from(["env", "a", "provider", "x{", "//"])
LEAVES = st.none() | st.integers(-9, 9) | st.text(max_size=4)
VALUES = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=3), LEAVES, max_size=3)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4), st.booleans())
def test_any_json_keeps_what_it_said(before: dict[str, Any], spread: bool) -> None:
    text = json.dumps(before, indent=2 if spread else None, ensure_ascii=False)
    is_possible = isinstance(before.get("provider", {}), dict)
    try:
        after = edited(client("opencode"), AT, text)
    except CannotEdit:
        assert not is_possible
        return
    said = json.loads(plain(after))
    assert said["provider"].pop("launcher")["options"]["baseURL"] == "http://127.0.0.1:8080/v1"
    assert said.pop("model") == "launcher/kimi-k2.5"
    assert said == {**before, "provider": before.get("provider") or {}}


def test_a_value_in_text_with_brackets_and_comments_in_strings() -> None:
    text = '{"a": "// no } comment", "b": {"c": [1, {"d": "]"}]}}'
    said = json.loads(plain(with_value(text, ("b", "e"), 5)))
    assert said == {"a": "// no } comment", "b": {"c": [1, {"d": "]"}], "e": 5}}
