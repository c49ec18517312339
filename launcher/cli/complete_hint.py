"""Complete a hint that names no command: the line that was typed, mended, or the command's help."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from launcher.models.url_secrets import strip_word_secrets

# Programs that hints name, besides launcher itself.
_PROGRAM = re.compile(
    r"(^|[ `/])(launcher|python[\d.]*|ls|df|cat|mv|rm|chmod|ulimit|unset|ssh|openssl|pip|journalctl|ollama"
    r"|sudo|apt-get|dnf|pacman|zypper|apk|brew|xcode-select)( |$|`)"
)
_LEAVE_OUT = re.compile(r"leave (-[\w-]+) out")
# what is done outside of the command, which is right as it is afterwards
_FIRST = re.compile(
    r"(mend|remove|move|rename|free|fetch|put|restore|copy|set|check|install|end|accept) |.* fetch (it|them)"
)
_AGAIN = re.compile(r"[,:]?( and| then){0,2} ?run (it|the same command) again( later)?$")
_REF = re.compile(r"(?<=launcher )(\w+) REF\b")
_NEAREST = re.compile(r"launcher profiles show (\S+)")
_OPTION = re.compile(r"--?[A-Za-z][\w-]*")
_SECRET = re.compile(r"-e|-hft|--(env|key|api-key|hf-token)(=.*)?", re.DOTALL)
_LONGEST = 300  # characters of a line that is typed again; a longer one is not read


def complete_hint(hint: str, typed: list[str], command: str, params: list[Any]) -> str:
    """Return the hint with a command that works when typed; one that has a command already as it is.

    `command` is the command meant (`launcher engine build`), `params` its parameters.
    """
    if _PROGRAM.search(hint):
        return _with_ref(hint, typed, params)
    line = _mended(hint, typed, params)
    if line is not None:
        return line
    again = _shown(["launcher", *typed])
    if again is not None and (_FIRST.match(hint) or _AGAIN.search(hint)):
        first = _AGAIN.sub("", hint)
        return f"{first}, then: {again}" if first else again
    return f"{hint}: {command} --help"


def _with_ref(hint: str, typed: list[str], params: list[Any]) -> str:
    """Return the hint with the model that was typed for REF, or the line with the nearest one."""
    ref = _ref_of(typed, params)
    if ref is None:
        return hint
    near = _NEAREST.fullmatch(hint)
    if near:
        return _shown(["launcher", *(near[1] if word == ref else word for word in typed)]) or hint
    shown = _shown([ref])
    return _REF.sub(lambda found: f"{found[1]} {shown}", hint) if shown else hint


def _ref_of(typed: list[str], params: list[Any]) -> str | None:
    """Return the REF that was typed; None if there is none, or the command takes none."""
    if not any(param.name == "ref" for param in params):
        return None
    words = typed[: typed.index("--")] if "--" in typed else typed
    for option in [word for word in words if _OPTION.match(word)]:
        words = _without(words, [option], params)
    return words[1] if len(words) > 1 else None


def _mended(hint: str, typed: list[str], params: list[Any]) -> str | None:
    """Return the line with the hint's options, or without the one to leave out; None for other hints."""
    left_out = _LEAVE_OUT.fullmatch(hint)
    if left_out:
        return _shown(["launcher", *_without(typed, _spellings(left_out[1], params), params)])
    try:
        words = shlex.split(hint)
    except ValueError:  # a quote in a sentence
        return None
    given = list(_options(words))
    if not given or sum(map(len, given)) != len(words):
        return None
    for option, *values in given:
        spellings = _spellings(option, params)
        own = any(option in param.opts for param in params)
        typed = _without(typed, spellings, params)
        at = typed.index("--") if "--" in typed else len(typed)
        if own:
            typed = [*typed[:at], option, *values, *typed[at:]]
        else:
            typed = [*typed, *(["--"] if at == len(typed) else []), option, *values]
    return _shown(["launcher", *typed])


def _options(words: list[str]) -> Iterator[list[str]]:
    """Return each option with its value; nothing of words that begin with none, or have two values."""
    at = 0
    while at < len(words) and _OPTION.fullmatch(words[at]):
        with_value = at + 1 < len(words) and not _OPTION.fullmatch(words[at + 1])
        yield words[at : at + 1 + with_value]
        at += 1 + with_value


def _spellings(option: str, params: list[Any]) -> list[str]:
    return next((param.opts for param in params if option in param.opts), [option])


def _without(typed: list[str], spellings: list[str], params: list[Any]) -> list[str]:
    """Return the line without an option and its value."""
    flags = {spelling for param in params if getattr(param, "is_flag", False) for spelling in param.opts}
    kept: list[str] = []
    words = iter(typed)
    word = next(words, None)
    while word is not None:
        following = next(words, None)
        if word in spellings and not (following is None or word in flags or _OPTION.fullmatch(following)):
            following = next(words, None)  # its value goes with it
        elif word not in spellings and word.partition("=")[0] not in spellings:
            kept.append(word)
        word = following
    return kept


def _shown(words: list[str]) -> str | None:
    """Return the line to type; None if it has secrets, or is too long to be read."""
    line = shlex.join(words).removesuffix(" --")
    has_secrets = any(strip_word_secrets(word) != word or _SECRET.fullmatch(word) for word in words)
    return None if has_secrets or len(line) > _LONGEST else line
