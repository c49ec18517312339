"""Take a pasted shell line apart: the program, the variables before it, its flags. Pure."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from launcher.engine.flags.user_flags import is_flag
from launcher.errors import UsageError

_LLAMA_SERVER = "llama-server"
_VARIABLE = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_PROGRAM = re.compile(r"(?:.*[/\\])?llama-server(?:\.exe)?|.*llama\.cpp:(?:server|full)\S*")
_ENDS = frozenset({"|", "||", "&", "&&", ";"})
_REDIRECTION = re.compile(r"(?:\d*|&)>{1,2}&?(.*)|<(.*)")
_SHELL = re.compile(
    r"""(?P<kept>'[^']*'|"(?:\\.|[^"\\])*"|\\.)"""  # quoted or escaped: no syntax
    r"""|(?P<comment>(?<!\S)\#[^\n]*)"""
    r"""|(?P<line>\n(?=[ \t]*[^\s-]))"""  # flags may go on without a backslash, other words begin a command
    r"""|(?P<end>&&|\|\||[;|](?=\s|$)|(?<!>)&(?=\s|$))""",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCall:
    """A call of llama-server, taken apart."""

    program: str
    variables: tuple[tuple[str, str], ...]
    flags: tuple[str, ...]


def take_apart(words: Sequence[str]) -> ServerCall:
    """Take words, or one string of shell code, apart.

    Raises UsageError if they are neither a call of llama-server nor flags of it.
    """
    # In one string, what a shell would not hand to the program is left out: what comes before it, comments,
    # redirections, and what follows its end.
    is_line = len(words) == 1 and re.search(r"\s", words[0])
    words, ends = (_split(words[0]), _ENDS) if is_line else (list(words), frozenset[str]())
    at = _find_program(words)
    if at is not None:
        return ServerCall(
            program=words[at] if _LLAMA_SERVER in words[at] else _LLAMA_SERVER,
            variables=_read_variables(words[:at]),
            flags=_until_end(words[at + 1 :], ends),
        )
    words = _until_end(words, ends)
    start = next((i for i, word in enumerate(words) if not _VARIABLE.fullmatch(word)), len(words))
    if start < len(words) and not is_flag(words[start]):
        raise UsageError(
            f"{words[start]!r} is neither llama-server nor a flag of it",
            hint="launcher check -- llama-server -m model.gguf -ngl 99",
        )
    return ServerCall(
        program=_LLAMA_SERVER, variables=_read_variables(words[:start]), flags=tuple(words[start:])
    )


def _find_program(words: Sequence[str]) -> int | None:
    """Return the index of the word after which the flags begin: `llama-server`, or `serve` after `llama`."""
    at = next((index for index, word in enumerate(words) if _PROGRAM.fullmatch(word)), None)
    if at is not None:
        return at
    unified = next((i for i in range(len(words) - 1) if _is_unified(words[i], words[i + 1])), None)
    return None if unified is None else unified + 1


def _split(line: str) -> list[str]:
    """Split shell code into words, those that end a command among them."""
    line = line.replace("\\\r\n", " ").replace("\\\n", " ").strip()
    try:
        words = shlex.split(_SHELL.sub(_set_apart, line))
    except ValueError as error:
        raise UsageError(f"the command line cannot be taken apart: {error}") from error
    command: list[str] = []
    names_file = False  # the next word is the file of a redirection
    for word in words:
        redirection = _REDIRECTION.fullmatch(word)
        if redirection:
            names_file = not (redirection[1] or redirection[2])
        elif names_file:
            names_file = False
        elif word.strip():
            command.append(word)
    return command


def _set_apart(match: re.Match[str]) -> str:
    """Replace what ends a command by a word of its own, a comment by a blank."""
    if match["comment"]:
        return " "
    if match["line"]:
        return " ; "
    return f" {match['end']} " if match["end"] else match[0]


def _until_end(words: Sequence[str], ends: frozenset[str]) -> tuple[str, ...]:
    return tuple(itertools.takewhile(lambda word: word not in ends, words))


def _is_unified(program: str, verb: str) -> bool:
    return program.rpartition("/")[2] in {"llama", "llama.exe"} and verb in {"serve", "server"}


def _read_variables(words: Iterable[str]) -> tuple[tuple[str, str], ...]:
    matches = (_VARIABLE.fullmatch(word) for word in words)
    return tuple((match[1], match[2]) for match in matches if match)
