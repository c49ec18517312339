"""`launcher serve` with real engines: three models and room for two, kills of engines and of the gateway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest

from launcher.engine.find import Engine
from tests.make_projector import make_projector
from tests.real.gateway_process import A_MODEL, BUDGET, Served, allocated_bytes, running, serving
from tests.real.soak import EMBEDDING_FLAGS, Soak
from tests.serving import until

pytestmark = pytest.mark.engine

HI: Any = [{"role": "user", "content": "Hi"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="


@pytest.fixture
def served(engine: Engine, default_model: Path, tmp_path: Path) -> Iterator[Served]:
    with serving(engine, default_model, tmp_path) as gateway:
        yield gateway


def test_three_models_in_room_for_two_with_kills_in_between(served: Served) -> None:
    def ask(model: str) -> str:
        with served.openai() as client:
            stream = client.chat.completions.create(model=model, messages=HI, max_tokens=2, stream=True)
            chunks = list(stream)
        assert chunks[-1].choices[0].finish_reason == "length"
        return model

    # mixed requests at once; never more in memory than fits
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(ask, "abcaabcb")) == sorted("abcaabcb")
    status = served.status()
    assert status["memory"]["ram"]["held_bytes"] <= BUDGET
    assert status["memory"]["ram"]["capacity_bytes"] <= BUDGET
    assert len(running()) == 2
    logs = [Path(entry.log_path).read_text() for entry in running().values()]
    assert 0 < sum(map(allocated_bytes, logs)) <= BUDGET

    # nobody gets past the gateway to an engine
    for entry in running().values():
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(
                f"{entry.url}/completion", json.dumps({"prompt": "Hi"}).encode(), timeout=60
            )
        assert entry.host == "127.0.0.1"

    # an engine that is killed is started again, and the next request for it is answered
    name, entry = next(iter(running().items()))
    assert entry.process is not None
    os.kill(entry.process.pid, signal.SIGKILL)
    assert ask(name) == name

    # so are models when the gateway is killed: they go on, and the next one adopts them
    before = {name: entry.pid for name, entry in running().items()}
    served.end(signal.SIGKILL)
    assert {name: entry.pid for name, entry in running().items()} == before
    served.start()
    assert {name for name, state in served.states().items() if state == "ready"} == set(before)
    assert [ask(name) for name in before] == list(before)
    assert {name: entry.pid for name, entry in running().items()} == before
    assert served.status()["loads"] == 0

    # one that ends as asked leaves them, too
    assert served.end() == 0
    assert {name: entry.pid for name, entry in running().items()} == before


def test_the_clients_that_users_have(served: Served) -> None:
    with served.openai() as client:
        answer = client.chat.completions.create(
            model="gpt-4o", messages=HI, max_tokens=4, logprobs=True, top_logprobs=2, temperature=0
        )
        assert answer.choices[0].logprobs is not None
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 4
        shaped = client.chat.completions.create(
            model="a",
            messages=HI,
            max_tokens=40,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"], "additionalProperties": False}},
            },
        )  # fmt: skip
        assert json.loads(shaped.choices[0].message.content or "") == {"n": 7}
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(
                model="a", messages=[{"role": "user", "content": [{"type": "odd"}]}]
            )  # type: ignore[list-item,misc]
        # who leaves ends the generation
        stream = client.chat.completions.create(model="a", messages=HI, max_tokens=400, stream=True)
        next(stream)
        stream.close()
        until(lambda: not any(slot["is_processing"] for slot in slots(served, "a")))
    with anthropic.Anthropic(base_url=served.url, api_key="x", max_retries=0) as asked:
        message = asked.messages.create(model="a", messages=HI, max_tokens=2)
        assert message.usage.output_tokens == 2
        assert asked.messages.count_tokens(model="a", messages=HI).input_tokens > 0
        with asked.messages.stream(model="a", messages=HI, max_tokens=2) as stream:
            assert stream.get_final_message().stop_reason == "max_tokens"
        with pytest.raises(anthropic.NotFoundError, match="no model 'nobody'"):
            asked.messages.create(model="nobody", messages=HI, max_tokens=2)
    speaks = ollama.Client(host=served.url)
    try:
        said = speaks.chat(model="a", messages=HI, options={"num_predict": 3})
        assert (said.eval_count, said.done_reason) == (3, "length")
        assert speaks.generate(model="a", prompt="Once", raw=True, options={"num_predict": 2}).eval_count == 2
        assert [model.model for model in speaks.ps().models] == ["a:latest"]
    finally:
        speaks._client.close()


# Calls are @[{"name": …, "arguments": …}]. No small model calls tools by itself: this one begins with an @,
# and the grammar that llama-server makes from the template and the tools does the rest.
CALLS = """\
{%- if tools %}{{- 'Tools:' }}{%- for tool in tools %}{{- ' ' + (tool | tojson) }}{%- endfor %}{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.tool_calls %}
        {{- '@[' }}
        {%- for call in message.tool_calls %}
            {{- '{"name": "' }}{{- call.function.name }}{{- '", "arguments": ' }}
            {{- call.function.arguments | tojson }}{{- '}' }}
            {%- if not loop.last %}{{- ', ' }}{%- endif %}
        {%- endfor %}
        {{- ']' }}
    {%- else %}
        {{- message.content }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
AT = 48  # in the vocabulary of SmolLM2
CITY: Any = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def test_tools_are_called_in_every_client_s_form(engine: Engine, default_model: Path, tmp_path: Path) -> None:
    template = tmp_path / "calls.jinja"
    template.write_text(CALLS)
    flags = f', "--jinja", "--chat-template-file", "{template}", "--logit-bias", "{AT}+100"'
    with serving(engine, default_model, tmp_path, flags={"a": flags}) as served:
        tool: Any = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
        with served.openai() as client:
            one: Any = {"model": "a", "tools": [tool], "parallel_tool_calls": False, "max_tokens": 120}
            [choice] = client.chat.completions.create(messages=HI, tool_choice="required", **one).choices
            assert choice.finish_reason == "tool_calls"
            [call] = choice.message.tool_calls or []
            assert call.type == "function"
            assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
            result: Any = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
            asked: Any = [*HI, choice.message.to_dict(), result]
            chunks = client.chat.completions.create(messages=asked, stream=True, **one)
            pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or ()]
            told = "".join(piece.function.arguments or "" for piece in pieces if piece.function)
            assert json.loads(told) == {"city": "Paris"}
        with anthropic.Anthropic(base_url=served.url, api_key="x", max_retries=0, timeout=240) as speaks:
            message = speaks.messages.create(
                model="a",
                messages=HI,
                tools=[{"name": "weather", "input_schema": CITY}],
                tool_choice={"type": "any", "disable_parallel_tool_use": True},
                max_tokens=120,
            )
            assert message.stop_reason == "tool_use"
            assert [(block.name, block.input) for block in message.content if block.type == "tool_use"] == [
                ("weather", {"city": "Paris"})
            ]
        local = ollama.Client(host=served.url)
        try:
            said = local.chat(model="a", messages=HI, tools=[tool], options={"num_predict": 120})
            [called] = said.message.tool_calls or []
            assert (called.function.name, called.function.arguments) == ("weather", {"city": "Paris"})
        finally:
            local._client.close()


def slots(served: Served, name: str) -> Any:
    with urllib.request.urlopen(f"{served.url}/upstream/{name}/slots", timeout=60) as answer:
        return json.load(answer)


def test_a_model_with_a_projector_beside_it_sees(engine: Engine, default_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sees"
    folder.mkdir()
    (folder / "seeing.gguf").symlink_to(default_model)
    make_projector(folder / "mmproj-F16.gguf", n_text=576, kind="mlp", image=56)  # hollow: it sees nothing
    more = A_MODEL.format(name="seeing", ref=folder / "seeing.gguf", flags="")
    with serving(engine, default_model, tmp_path, more=more) as served, served.openai() as client:
        seen: Any = [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                ],
            }
        ]
        answer = client.chat.completions.create(model="seeing", messages=seen, max_tokens=1)
        assert answer.usage is not None
        assert answer.usage.prompt_tokens > (56 // 14) ** 2  # a token a patch
        listed = {model.id: model.to_dict() for model in client.models.list()}
        assert "image" in str(listed["seeing"])
        with anthropic.Anthropic(base_url=served.url, api_key="x", max_retries=0, timeout=240) as asked:
            source: Any = {"type": "base64", "media_type": "image/png", "data": PIXEL}
            content: Any = [{"type": "image", "source": source}, {"type": "text", "text": "?"}]
            message = asked.messages.create(
                model="seeing", messages=[{"role": "user", "content": content}], max_tokens=1
            )
            assert message.usage.output_tokens == 1
        speaks = ollama.Client(host=served.url)
        try:
            said = speaks.chat(
                model="seeing",
                messages=[{"role": "user", "content": "?", "images": [PIXEL]}],
                options={"num_predict": 1},
            )
            assert said.eval_count == 1
        finally:
            speaks._client.close()
        with pytest.raises(openai.APIStatusError):  # a model that does not see says so
            client.chat.completions.create(model="a", messages=seen, max_tokens=1)


def test_what_up_started_is_served_and_kept(served: Served, default_model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "launcher", "up", str(default_model), "--name", "mine", "-c", "512", "--cache-ram", "0"],
        env=served.env,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with served.openai() as client:
        answer = client.chat.completions.create(model="mine", messages=HI, max_tokens=2)
        assert answer.usage is not None
        # a and b cannot both be here beside it, and it stays
        for name in ("a", "b"):
            client.chat.completions.create(model=name, messages=HI, max_tokens=1)
    assert "mine" in running()
    assert len(running()) == 2


def test_nothing_is_lost_but_what_the_killed_were_answering(
    engine: Engine, default_model: Path, tmp_path: Path
) -> None:
    # scripts/bench soak is this for 500 requests, with frozen engines
    with serving(engine, default_model, tmp_path, EMBEDDING_FLAGS) as served:
        report = Soak(served, seed=2).run(16, clients=4, disturbances=("engine", "gateway"))
        served.unload_all()
        assert served.status()["memory"]["ram"]["held_bytes"] == 0
        assert running() == {}
    assert sum(report.answered.values()) + len(report.losses) == 16
    assert not report.unexcused
    assert len(report.losses) <= 2 + 4  # the engine's slots, and all who asked the gateway
    assert 0 < report.most_bytes <= BUDGET
    assert report.most_engines <= 2
