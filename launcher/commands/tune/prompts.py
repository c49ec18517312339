"""Choose what is measured: the user's own prompts, some of them held out, or tokens at random."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import UsageError
from launcher.system.json_object import JsonObject, Malformed, parse_json
from launcher.system.small_files import read_small
from launcher.units import printable

_MOST_BYTES = 16 << 20
_MOST_PROMPTS = 8  # of each part: a trial answers them all
_HELD_OUT = 3  # every third
_MOST_REPLY = 2048
_SHAPE = 'a line is {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}, with "max_tokens"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    text: str | tuple[int, ...]  # or tokens
    reply: int  # tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The prompts that settings are chosen by, and those that decide."""

    chosen_by: tuple[Prompt, ...]
    held_out: tuple[Prompt, ...]
    words: str  # what they are
    are_users: bool

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt, at most: each has a byte of the text, and one begins it."""
        texts = (prompt.text for prompt in (*self.chosen_by, *self.held_out))
        return max(
            (1 + len(text.encode()) if isinstance(text, str) else len(text) for text in texts), default=0
        )


NO_PROMPTS = Prompts(chosen_by=(), held_out=(), words="", are_users=False)


def random_prompts(n_vocab: int, prompt: int, reply: int) -> Prompts:
    """Make one prompt for each part, of tokens at random: experts share the work, as llama-bench has it."""
    tokens = random.Random(1)  # noqa: S311

    def one() -> tuple[Prompt, ...]:
        text = tuple(tokens.randrange(1, n_vocab) for _ in range(prompt))
        return (Prompt(text=text, reply=reply),)

    words = f"{prompt} new tokens and {reply} answered"
    return Prompts(chosen_by=one(), held_out=one(), words=words, are_users=False)


def read_prompts(file: Path, reply: int) -> Prompts:
    """Read the user's prompts, one JSON object a line; every third is held out. Raises UsageError."""
    try:
        lines = [line for line in read_small(file, _MOST_BYTES).split(b"\n") if line.strip()]
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", hint=f"ls -l {file}") from error
    prompts = []
    for number, line in enumerate(lines, 1):
        try:
            prompts.append(_prompt(JsonObject(parse_json(line)), reply))
        except Malformed as error:
            raise UsageError(f"line {number} of {file}: {error}", hint=_SHAPE) from error
    held_out = tuple(prompts[_HELD_OUT - 1 :: _HELD_OUT][:_MOST_PROMPTS])
    if not held_out:
        raise UsageError(f"{file} has {len(prompts)} prompts, and {_HELD_OUT} are the least", hint=_SHAPE)
    chosen_by = [prompt for index, prompt in enumerate(prompts, 1) if index % _HELD_OUT]
    used = tuple(chosen_by[:_MOST_PROMPTS])
    words = f"{len(used)} prompts of {printable(file.name)}, {len(held_out)} more held out"
    return Prompts(chosen_by=used, held_out=held_out, words=words, are_users=True)


def _prompt(given: JsonObject, reply: int) -> Prompt:
    if given.has("messages"):
        texts = [f"{each.text('role')}: {each.text('content')}" for each in given.objects_at("messages")]
        text = "\n".join(texts)
    else:
        text = given.text("prompt")
    if not text:
        raise given.malformed("prompt", "is empty")
    wanted = given.optional_whole("max_tokens", 1)
    return Prompt(text=text, reply=min(reply if wanted is None else wanted, _MOST_REPLY))
