"""Ollama's requests in OpenAI's words, and the answers back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from launcher.gateway.ollama_words import (
    BadRequest,
    Timing,
    Translation,
    chat_request,
    embed_answer,
    generate_request,
    object_of,
)


def translate(
    events: list[dict[str, Any]], *, is_chat: bool = True, streams: bool = True, cut: int = 7
) -> list[Any]:
    translation = Translation(name="m", created_at="now", is_chat=is_chat, streams=streams)
    stream = (
        b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    )
    out = b"".join(translation.feed(stream[at : at + cut]) for at in range(0, len(stream), cut))
    return [json.loads(line) for line in (out + translation.end(Timing())).splitlines()]


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


END = {
    "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def test_options_have_the_engines_names() -> None:
    made = chat_request({
        "messages": [{"role": "user", "content": "Hi"}],
        "options": {"num_predict": 5, "temperature": 0, "num_ctx": 9, "stop": ["x"]},
        "format": {"type": "object"},
        "think": False,
        "tools": [{"type": "function"}],
    })  # fmt: skip
    assert (made["max_tokens"], made["temperature"], made["stop"]) == (5, 0, ["x"])
    assert "num_ctx" not in made
    assert made["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert made["chat_template_kwargs"] == {"enable_thinking": False}
    assert made["tools"] == [{"type": "function"}]


def test_minus_one_is_no_limit() -> None:
    assert "max_tokens" not in chat_request({"messages": [], "options": {"num_predict": -1}})


def test_images_and_tools_of_a_conversation() -> None:
    made = chat_request({
        "messages": [
            {"role": "user", "content": "What?", "images": ["aGk="]},
            {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": {"at": 1}}}]},
            {"role": "tool", "tool_name": "look", "content": "a cat"},
        ]
    })  # fmt: skip
    user, assistant, tool = made["messages"]
    assert user["content"][1] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    [call] = assistant["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"at": 1}
    assert tool["tool_call_id"] == call["id"]


@pytest.mark.parametrize(
    "given",
    [{}, {"messages": "x"}, {"messages": [1]}, {"messages": [{"images": [1]}]}, {"messages": [], "options": 1},
     {"messages": [{"tool_calls": [{}]}]}],
)  # fmt: skip
def test_what_makes_no_sense_is_said(given: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        chat_request(given)


@pytest.mark.parametrize("body", [b"[]", b"1", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object(body: bytes) -> None:
    with pytest.raises(BadRequest):
        object_of(body)


def test_a_prompt_is_a_chat_unless_it_is_raw() -> None:
    assert generate_request({"prompt": "Hi", "system": "Be brief"})[0] == "/v1/chat/completions"
    assert generate_request({"prompt": "Hi", "raw": True})[0] == "/v1/completions"
    path, made = generate_request({"prompt": "a", "suffix": "b"})
    assert (path, made["input_prefix"], made["input_suffix"]) == ("/infill", "a", "b")


def test_a_stream_is_lines_and_an_end() -> None:
    lines = translate(
        [delta(role="assistant", content=None), delta(reasoning_content="hm"), delta(content="Hi\u2028"), END]
    )
    assert [line["message"] for line in lines] == [
        {"role": "assistant", "content": "", "thinking": "hm"},
        {"role": "assistant", "content": "Hi\u2028"},
        {"role": "assistant", "content": ""},
    ]
    assert [line["done"] for line in lines] == [False, False, True]
    assert (lines[-1]["eval_count"], lines[-1]["prompt_eval_count"], lines[-1]["done_reason"]) == (
        2,
        3,
        "stop",
    )


def test_an_answer_in_one_piece() -> None:
    [line] = translate([delta(content="Hel"), delta(content="lo"), END], is_chat=False, streams=False)
    assert (line["response"], line["done"]) == ("Hello", True)


@pytest.mark.parametrize("streams", [True, False])
def test_tool_calls_come_whole(streams: bool) -> None:
    parts = [
        delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "look", "arguments": ""}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"at"'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
        END,
    ]
    lines = translate(parts, streams=streams)
    calls = [call for line in lines for call in line["message"].get("tool_calls", ())]
    assert calls == [{"function": {"name": "look", "arguments": {"at": 1}}}]


def test_an_error_in_a_stream_is_a_line() -> None:
    lines = translate([delta(content="a"), {"error": {"message": "out of memory"}}])
    assert {"error": "out of memory"} in lines


def test_embeddings_are_in_the_order_of_their_index() -> None:
    given = {
        "data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}],
        "usage": {"prompt_tokens": 4},
    }
    assert embed_answer("m", given, old=False) == {
        "model": "m",
        "embeddings": [[1.0], [2.0]],
        "prompt_eval_count": 4,
    }
    assert embed_answer("m", given, old=True) == {"embedding": [1.0]}
