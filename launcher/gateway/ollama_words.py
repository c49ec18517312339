"""Say Ollama's requests in OpenAI's words, and OpenAI's answers in Ollama's. Pure.

Field names from Ollama's docs/api.md and its Python client 0.6.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.progress import Step
from launcher.system.json_object import Malformed, parse_json

_OPTIONS = {
    "num_predict": "max_tokens",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "seed": "seed",
    "stop": "stop",
    "repeat_penalty": "repeat_penalty",
    "repeat_last_n": "repeat_last_n",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
"""Names in `options`, and what llama-server calls them; others (num_ctx, num_gpu) are the plan's business."""

Object = dict[str, Any]


class BadRequest(ValueError):
    """A request that says something impossible; a sentence."""


def object_of(body: bytes) -> Object:
    """Return the object that is the body, an empty one for no body. Raises BadRequest."""
    try:
        value = parse_json(body) if body.strip() else {}
    except Malformed as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadRequest("the body is not a JSON object")
    return value


def chat_request(given: Mapping[str, Any]) -> Object:
    """Return the body for /v1/chat/completions. Raises BadRequest."""
    messages = given.get("messages")
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise BadRequest("messages is not a list of objects")
    made = {"messages": _messages(messages), **_settings(given)}
    if given.get("tools"):
        made["tools"] = given["tools"]
    return made


def generate_request(given: Mapping[str, Any]) -> tuple[str, Object]:
    """Return the path and body for /api/generate: a chat of one message, or a prompt as it is."""
    prompt = str(given.get("prompt") or "")
    if given.get("suffix"):
        made = {"input_prefix": prompt, "input_suffix": str(given["suffix"]), **_settings(given)}
        made["n_predict"] = made.pop("max_tokens", -1)
        return "/infill", made
    if given.get("raw"):
        return "/v1/completions", {"prompt": prompt, **_settings(given)}
    messages: list[Object] = [{"role": "user", "content": prompt, "images": given.get("images")}]
    if given.get("system"):
        messages.insert(0, {"role": "system", "content": str(given["system"])})
    return "/v1/chat/completions", {"messages": _messages(messages), **_settings(given)}


def embed_request(given: Mapping[str, Any]) -> Object:
    text = given.get("input", given.get("prompt", ""))
    made: Object = {"input": text}
    if given.get("dimensions"):
        made["dimensions"] = given["dimensions"]
    return made


def embed_answer(name: str, given: Mapping[str, Any], *, old: bool) -> Object:
    """Return the answer of /api/embed, or of the `old` /api/embeddings."""
    vectors = [each["embedding"] for each in sorted(given.get("data", ()), key=lambda each: each["index"])]
    if old:
        return {"embedding": vectors[0] if vectors else []}
    count = (given.get("usage") or {}).get("prompt_tokens", 0)
    return {"model": name, "embeddings": vectors, "prompt_eval_count": count}


@dataclass(slots=True, kw_only=True)
class Timing:
    """Nanoseconds, as Ollama counts."""

    total_ns: int = 0
    load_ns: int = 0


@dataclass(slots=True, kw_only=True)
class Translation:
    """One answer on its way from OpenAI's chunks to Ollama's lines."""

    name: str
    created_at: str
    is_chat: bool
    streams: bool
    tools: dict[int, Object] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    reason: str | None = None
    usage: Object = field(default_factory=dict)
    timings: Object = field(default_factory=dict)
    _rest: bytes = b""

    def feed(self, block: bytes) -> bytes:
        """Return the lines that a piece of the stream gives."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        out = []
        for line in lines:
            if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
                continue
            try:
                event = json.loads(line[5:])
            except ValueError:
                continue
            out.append(self._chunk(event))
        return b"".join(out)

    def end(self, timing: Timing) -> bytes:
        """Return the last line, or the whole answer if it is not streamed."""
        calls = [_tool_call(call) for _, call in sorted(self.tools.items())]
        text, thinking = ("", "") if self.streams else ("".join(self.text), "".join(self.thinking))
        out = b""
        if self.streams and calls:
            out = json_line(self._with({"content": "", "tool_calls": calls}, done=False))
            calls = []
        message: Object = {"content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = calls
        last = self._with(message, done=True)
        prompt, answer = self.usage.get("prompt_tokens"), self.usage.get("completion_tokens")
        last |= {
            "done_reason": "length" if self.reason == "length" else "stop",
            "total_duration": timing.total_ns,
            "load_duration": timing.load_ns,
            "prompt_eval_count": prompt if prompt is not None else self.timings.get("prompt_n", 0),
            "prompt_eval_duration": int(self.timings.get("prompt_ms", 0) * 1e6),
            "eval_count": answer if answer is not None else self.timings.get("predicted_n", 0),
            "eval_duration": int(self.timings.get("predicted_ms", 0) * 1e6),
        }
        return out + json_line(last)

    def _chunk(self, event: Object) -> bytes:
        if "error" in event:
            return json_line({"error": error_sentence(event)})
        self.usage = event.get("usage") or self.usage
        self.timings = event.get("timings") or self.timings
        choice = (event.get("choices") or [{}])[0]
        if "content" in event and "choices" not in event:  # /infill speaks llama-server's own words
            choice = {"text": event["content"], "finish_reason": "stop" if event.get("stop") else None}
        self.reason = choice.get("finish_reason") or self.reason
        delta = choice.get("delta") or {"content": choice.get("text")}
        for call in delta.get("tool_calls") or ():
            self._add_call(call)
        text, thinking = delta.get("content"), delta.get("reasoning_content")
        if not self.streams:
            self.text.append(text or "")
            self.thinking.append(thinking or "")
            return b""
        if not text and not thinking:
            return b""
        message: Object = {"content": text or ""}
        if thinking:
            message["thinking"] = thinking
        return json_line(self._with(message, done=False))

    def _with(self, message: Object, *, done: bool) -> Object:
        head: Object = {"model": self.name, "created_at": self.created_at}
        if self.is_chat:
            return {**head, "message": {"role": "assistant", **message}, "done": done}
        thinking = {"thinking": message["thinking"]} if "thinking" in message else {}
        return {**head, "response": message["content"], **thinking, "done": done}

    def _add_call(self, call: Object) -> None:
        kept = self.tools.setdefault(call.get("index", 0), {"name": "", "arguments": ""})
        function = call.get("function") or {}
        kept["name"] = function.get("name") or kept["name"]
        kept["arguments"] += function.get("arguments") or ""


def ref_of(name: str) -> str:
    """Return the REF that a name of Ollama's stands for. Raises BadRequest."""
    if "://" in name or name[:1] in {"/", ".", "~"}:
        # a client that has a key may not have this machine fetch from its own network
        raise BadRequest("name a model, not an address or a path")
    return name.removeprefix("hf.co/").removeprefix("huggingface.co/").removesuffix(":latest")


def pull_line(step: Step) -> str:
    """Return how far a download is, as Ollama says it; nothing for what it has no words for."""
    if step.unit != "bytes" or not step.total or step.file:
        return ""
    digest = f"sha256:{hashlib.sha256(step.text.encode()).hexdigest()}"  # clients tell layers apart by it
    words = {
        "status": f"pulling {step.text}".strip(),
        "digest": digest,
        "total": step.total,
        "completed": step.done,
    }
    return json.dumps(words)


def error_sentence(given: Mapping[str, Any]) -> str:
    """Return what an error of llama-server says."""
    error = given.get("error")
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def json_line(value: Mapping[str, Any]) -> bytes:
    # in ASCII: Python's client takes U+2028 for the end of a line
    return json.dumps(value).encode() + b"\n"


def _tool_call(call: Object) -> Object:
    try:
        arguments = json.loads(call["arguments"] or "{}")
    except ValueError:
        arguments = {"arguments": call["arguments"]}
    return {"function": {"name": call["name"], "arguments": arguments}}


def _settings(given: Mapping[str, Any]) -> Object:
    options = given.get("options") or {}
    if not isinstance(options, dict):
        raise BadRequest("options is not an object")
    made = {
        _OPTIONS[name]: value for name, value in options.items() if name in _OPTIONS and value is not None
    }
    if isinstance(made.get("max_tokens"), int) and made["max_tokens"] < 0:
        del made["max_tokens"]  # -1 and -2: as much as there is
    shape = given.get("format")
    if shape == "json":
        made["response_format"] = {"type": "json_object"}
    elif isinstance(shape, dict):
        made["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": shape}}
    if given.get("think") is not None:
        made["chat_template_kwargs"] = {"enable_thinking": bool(given["think"])}
    made["stream"] = True  # for one that is not streamed the chunks are put together
    made["stream_options"] = {"include_usage": True}
    return made


def _messages(given: Sequence[Object]) -> list[Object]:
    made, last_ids = [], dict[str, str]()
    for number, message in enumerate(given):
        each: Object = {"role": message.get("role", "user"), "content": message.get("content") or ""}
        images = message.get("images")
        if images:
            if not isinstance(images, list):
                raise BadRequest("images is not a list")
            each["content"] = [{"type": "text", "text": each["content"]}, *map(_image, images)]
        calls = message.get("tool_calls")
        if calls:
            if not isinstance(calls, list):
                raise BadRequest("tool_calls is not a list")
            each["tool_calls"] = [_openai_call(call, f"call_{number}_{i}") for i, call in enumerate(calls)]
            last_ids = {call["function"]["name"]: call["id"] for call in each["tool_calls"]}
        if each["role"] == "tool":
            name = message.get("tool_name") or message.get("name") or ""
            each["tool_call_id"] = last_ids.get(name) or next(iter(last_ids.values()), "call_0")
        made.append(each)
    return made


def _image(data: object) -> Object:
    if not isinstance(data, str):
        raise BadRequest("an image is not base64 text")
    url = data if data.startswith("data:") else f"data:image/png;base64,{data}"
    return {"type": "image_url", "image_url": {"url": url}}


def _openai_call(call: object, number: str) -> Object:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise BadRequest("a tool call has no function")
    arguments = function.get("arguments") or {}
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {
        "id": number,
        "type": "function",
        "function": {"name": function.get("name", ""), "arguments": text},
    }
