"""What a request asks for beside its messages: sampling values, a schema, images."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.cli.options.serving import AskOptions
from launcher.engine.chat import Message
from launcher.errors import UsageError
from launcher.system.json_object import Malformed, parse_json
from launcher.system.small_files import read_small, read_small_text

_MOST_IMAGE_BYTES = 32 << 20
# Image formats by their first bytes, as stb_image in llama.cpp's mtmd reads them.
_KINDS = ((b"\x89PNG\r\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"BM", "bmp"))


@dataclass(frozen=True, slots=True)
class Asked:
    """Settings of the requests of a conversation."""

    system: str | None = None
    fields: Mapping[str, Any] | None = None  # of OpenAI's request

    def with_field(self, name: str, value: object) -> Asked:
        """Return the settings with a field of the request, or without it for None."""
        fields = {key: given for key, given in (self.fields or {}).items() if key != name}
        return replace(self, fields=fields if value is None else {**fields, name: value})

    def messages(self, talk: Sequence[Message]) -> list[Message]:
        return [{"role": "system", "content": self.system}, *talk] if self.system else list(talk)


def read_asked(options: AskOptions) -> Asked:
    """Return the settings that were typed. Raises UsageError for a schema that is none."""
    fields: dict[str, Any] = {
        "temperature": options.temperature,
        "max_tokens": options.max_tokens,
        "seed": options.seed,
    }
    if options.json_schema is not None:
        schema = {"name": "answer", "schema": _schema(options.json_schema)}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    return Asked(options.system, {name: value for name, value in fields.items() if value is not None})


def question_message(text: str, images: Sequence[Path]) -> Message:
    """Return a question as a message, with its images before it. Raises UsageError."""
    if not images:
        return {"role": "user", "content": text}
    pictures = [{"type": "image_url", "image_url": {"url": image_url(file)}} for file in images]
    return {"role": "user", "content": [*pictures, {"type": "text", "text": text}]}


def image_url(file: Path) -> str:
    """Return an image as a data URL. Raises UsageError for what llama-server cannot read."""
    try:
        data = read_small(file, _MOST_IMAGE_BYTES)
    except OSError as error:
        raise UsageError(
            f"image {file} cannot be read: {error.strerror}", hint="name another file"
        ) from error
    kind = next((name for start, name in _KINDS if data.startswith(start)), None)
    if kind is None:
        raise UsageError(f"{file} is no image that llama-server reads", hint="convert it to PNG or JPEG")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _schema(text: str) -> dict[str, Any]:
    try:
        given = parse_json(text if text.lstrip().startswith("{") else read_small_text(Path(text)))
    except OSError as error:
        raise UsageError(
            f"--json-schema {text[:80]} cannot be read: {error.strerror}", hint="name a file, or write {…}"
        ) from error
    except (Malformed, ValueError) as error:
        raise UsageError(f"--json-schema: {error}", hint='write it like {"type": "object"}') from error
    if not isinstance(given, dict):
        raise UsageError("--json-schema is no JSON object", hint='write it like {"type": "object"}')
    return given
