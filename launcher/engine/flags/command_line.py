"""A llama-server command line, read: the model it names, what it settles about memory, and what is wrong with it.

PURE. Follows common_params_parse_ex (common/arg.cpp at 0c1e570): environment before flags, the last of equal flags wins,
overrides add up. Flags that are gone are read for what they meant.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from launcher.engine.flags.help_text import Option
from launcher.engine.flags.memory_flags import (
    AUTO,
    FALSE,
    FIRST_SPELLING,
    HANDLERS,
    MEMORY_VARIABLES,
    OPPOSITE,
    TRUE,
    MemorySettings,
)
from launcher.engine.flags.pinned_flags import PINNED_ARITIES, REMOVED_FLAGS
from launcher.engine.flags.rope_flags import read_rope
from launcher.engine.flags.user_flags import is_flag
from launcher.errors import UsageError
from launcher.plan.check.configuration import Configuration
from launcher.plan.modes import LoadMode

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

_UNCOUNTED = {
    "--lora": "the adapter",
    "--lora-scaled": "the adapter",
    "--control-vector": "the control vector",
    "--control-vector-scaled": "the control vector",
    "-nr": "the host without repacked weights",
    "--rpc": "remote memory",
    "-mv": "the vocoder",
}
_COMPANION_VARIABLES = {
    "LLAMA_ARG_MMPROJ": "--mmproj",
    "LLAMA_ARG_MMPROJ_URL": "--mmproj-url",
    "LLAMA_ARG_MMPROJ_OFFLOAD": "--mmproj-offload",
    "LLAMA_ARG_IMAGE_MIN_TOKENS": "--image-min-tokens",
    "LLAMA_ARG_IMAGE_MAX_TOKENS": "--image-max-tokens",
    "LLAMA_ARG_SPEC_DRAFT_MODEL": "-md",
    "LLAMA_ARG_SPEC_DRAFT_HF_REPO": "-hfd",
    "LLAMA_ARG_N_GPU_LAYERS_DRAFT": "-ngld",
    "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_K": "-ctkd",
    "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_V": "-ctvd",
    "LLAMA_ARG_SPEC_DRAFT_CPU_MOE": "-cmoed",
    "LLAMA_ARG_SPEC_DRAFT_N_CPU_MOE": "-ncmoed",
    "LLAMA_ARG_SPEC_DRAFT_N_MAX": "--spec-draft-n-max",
    "LLAMA_ARG_SPEC_TYPE": "--spec-type",
}
"""Variables for what is loaded beside the model (set_env in common/arg.cpp), and the flags they stand for."""
_COMPANION_OPPOSITES = {"--mmproj-offload": "--no-mmproj-offload"}
_NO_REPO_PROJECTOR = frozenset({"--no-mmproj", "--no-mmproj-auto", "-mm", "--mmproj", "-mmu", "--mmproj-url"})
"""A projector that is named, or none: the repo's is left (common_models_handler_init, common/arg.cpp)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`model` is a REF as launcher takes it, None where none is named; `model_words` are the words that name it.
    `address` holds `--host`, `--port` and `--alias`, `others` the flags that say nothing about the model's own memory:
    those of companions are among them. `refused` are sentences on words that this llama-server would not take, `notes`
    on what is not in the ledger. `corrected` are the flags as it does take them: all of them, where `refused` is empty."""

    program: str
    variables: tuple[tuple[str, str], ...]
    model: str | None
    model_words: tuple[str, ...]
    configuration: Configuration
    address: tuple[tuple[str, str], ...]
    others: tuple[str, ...]
    refused: tuple[str, ...]
    notes: tuple[str, ...]
    corrected: tuple[str, ...]


@dataclass(slots=True)
class _Reading:
    """The command line as far as it was read."""

    settings: MemorySettings = field(default_factory=MemorySettings)
    model: dict[str, str] = field(default_factory=dict)
    model_words: list[str] = field(default_factory=list)
    address: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    corrected: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    """Flags that are gone and were about loading: what replaced them is one, and the last wins."""


def arities_of(options: Iterable[Option]) -> dict[str, int]:
    """How many words follow each flag of an engine, from its `--help`."""
    return {
        spelling: 0 if option.hint is None else 2 if option.hint == "START END" else 1
        for option in options
        for spelling in option.spellings
    }


def read_command(words: Sequence[str], arities: Mapping[str, int] = PINNED_ARITIES) -> Command:
    """Read a command line: words, or one quoted string of them; with or without the program and what is before it.

    `arities` are the flags of the engine in use. Raises UsageError for values llama-server would refuse.
    """
    program, variables, flags = _take_apart(words)
    reading = _Reading()
    for variable, value in variables:
        name = MEMORY_VARIABLES.get(variable)
        if name is not None:
            _apply_variable(reading, name, value, arities)
        elif variable in _COMPANION_VARIABLES:
            reading.others += _companion_words(_COMPANION_VARIABLES[variable], value, arities)
    at = 0
    while at < len(flags):
        at += _read_flag(reading, flags[at:], arities)
    if "-hf" in reading.model and not _NO_REPO_PROJECTOR & set(reading.others):
        reading.notes.append(
            "a projector (mmproj) in the repo is loaded too and not in the ledger: --no-mmproj"
        )
    return Command(
        program=program,
        variables=variables,
        model=_model(reading.model),
        model_words=tuple(reading.model_words),
        configuration=replace(reading.settings.settle(), rope=read_rope(reading.others)),
        address=tuple(reading.address.items()),
        others=tuple(reading.others),
        refused=tuple(reading.refused),
        notes=tuple(dict.fromkeys(reading.notes)),
        corrected=(*reading.corrected, *_load_words(reading)),
    )


def _take_apart(words: Sequence[str]) -> tuple[str, tuple[tuple[str, str], ...], list[str]]:
    """Program, variables before it, and the flags. In one string, what a shell would not hand to the program is left
    out: what comes before it, comments, redirections, and what follows its end."""
    is_line = len(words) == 1 and re.search(r"\s", words[0])
    words, ends = (_split(words[0]), _ENDS) if is_line else (list(words), frozenset[str]())
    at = next((index for index, word in enumerate(words) if _PROGRAM.fullmatch(word)), None)
    if at is None:
        unified = next((i for i in range(len(words) - 1) if _is_unified(words[i], words[i + 1])), None)
        at = None if unified is None else unified + 1
    if at is not None:
        program = words[at] if "llama-server" in words[at] else "llama-server"
        return program, _variables(words[:at]), _until_end(words[at + 1 :], ends)
    words = _until_end(words, ends)
    start = next((i for i, word in enumerate(words) if not _VARIABLE.fullmatch(word)), len(words))
    if start < len(words) and not is_flag(words[start]):
        raise UsageError(
            f"{words[start]!r} is neither llama-server nor a flag of it",
            hint="launcher check -- llama-server -m model.gguf -ngl 99",
        )
    return "llama-server", _variables(words[:start]), words[start:]


def _split(line: str) -> list[str]:
    """The words of a shell's lines, those that end a command among them."""
    line = line.replace("\\\r\n", " ").replace("\\\n", " ").strip()
    try:
        words = shlex.split(_SHELL.sub(_spelled_out, line))
    except ValueError as error:
        raise UsageError(f"the command line cannot be taken apart: {error}") from error
    kept: list[str] = []
    names_file = False
    for word in words:
        redirection = _REDIRECTION.fullmatch(word)
        if redirection:
            names_file = not (redirection[1] or redirection[2])
        elif names_file:
            names_file = False
        elif word.strip():
            kept.append(word)
    return kept


def _spelled_out(found: re.Match[str]) -> str:
    """A shell's own syntax as words of their own."""
    if found["comment"]:
        return " "
    if found["line"]:
        return " ; "
    return f" {found['end']} " if found["end"] else found[0]


def _until_end(words: list[str], ends: frozenset[str]) -> list[str]:
    return words[: next((index for index, word in enumerate(words) if word in ends), len(words))]


def _load_words(reading: _Reading) -> tuple[str, ...]:
    """One --load-mode for flags that added up: --no-mmap --mlock read the weights and locked them."""
    if {"--no-mmap", "--mlock"} <= set(reading.loads):
        mode = reading.settings.settle().load_mode
        return ("--load-mode", "mlock" if mode is LoadMode.MLOCK else "mmap+mlock")
    return tuple(REMOVED_FLAGS[reading.loads[-1]][1].split()) if reading.loads else ()


def _is_unified(program: str, verb: str) -> bool:
    return program.rpartition("/")[2] in {"llama", "llama.exe"} and verb in {"serve", "server"}


def _variables(words: Iterable[str]) -> tuple[tuple[str, str], ...]:
    found = (_VARIABLE.fullmatch(word) for word in words)
    return tuple((match[1], match[2]) for match in found if match)


def _apply_variable(reading: _Reading, name: str, value: str, arities: Mapping[str, int]) -> None:
    if arities.get(name, 0):
        _apply(reading, name, value)
    elif value in TRUE:
        _apply(reading, name, "")
    elif value in FALSE and name in OPPOSITE:
        _apply(reading, OPPOSITE[name], "")


def _companion_words(flag: str, value: str, arities: Mapping[str, int]) -> tuple[str, ...]:
    """The flag that a variable stands for, with its value."""
    if arities.get(flag, 0):
        return (flag, value)
    if value in TRUE:
        return (flag,)
    return (_COMPANION_OPPOSITES[flag],) if value in FALSE and flag in _COMPANION_OPPOSITES else ()


def _read_flag(reading: _Reading, words: Sequence[str], arities: Mapping[str, int]) -> int:
    """Take in the flag that `words` begin with; how many words that were."""
    flag = words[0].replace("_", "-") if words[0].startswith("--") else words[0]
    head, equals, tail = flag.partition("=")
    if equals and (head in arities or head in REMOVED_FLAGS):
        reading.refused.append(
            f"{words[0]}: llama-server takes the value as a word of its own, {head} {tail}"
        )
        _read_flag(reading, (head, words[0].partition("=")[2]), arities)
        return 1
    if not is_flag(flag):
        reading.refused.append(f"{flag!r} belongs to no flag")
        return 1
    if flag not in arities:
        return _read_unknown(reading, flag, words)
    values = list(words[1 : 1 + arities[flag]])
    name = FIRST_SPELLING.get(flag, flag)
    if name == "-fa" and arities[flag] and not (values and values[0] in TRUE | FALSE | AUTO):
        reading.refused.append(f"{flag} needs a value now: {flag} on")
        _apply(reading, name, "on")
        reading.corrected += (flag, "on")
        return 1
    if len(values) < arities[flag]:
        raise UsageError(f"{flag} at the end of the command line lacks its value")
    reading.corrected += (flag, *values)
    _take(reading, name, (flag, *values))
    return 1 + len(values)


def _read_unknown(reading: _Reading, flag: str, words: Sequence[str]) -> int:
    gone = REMOVED_FLAGS.get(flag)
    if gone is not None:
        n_values, now = gone
        instead = now if now.startswith("nothing") else f"{now} now"
        reading.refused.append(f"{flag} is gone: it is {instead}")
        if now.startswith("--load-mode"):
            reading.loads.append(flag)
        elif not now.startswith("nothing"):
            reading.corrected += (*now.split(), *words[1 : 1 + n_values])
    elif flag in PINNED_ARITIES:
        n_values = PINNED_ARITIES[flag]
        reading.refused.append(f"this llama-server has no flag {flag}")
    else:
        n_values = 1 if len(words) > 1 and not is_flag(words[1]) else 0
        reading.refused.append(f"llama-server has no flag {flag}")
    name = FIRST_SPELLING.get(flag, flag)
    if name in HANDLERS:
        _apply(reading, name, words[1] if n_values and len(words) > 1 else "")
    return min(1 + n_values, len(words))


def _take(reading: _Reading, name: str, words: tuple[str, ...]) -> None:
    if name in _UNCOUNTED:
        reading.notes.append(f"{' '.join(words)}: {_UNCOUNTED[name]} is not in the ledger")
        reading.others += words
    elif name in {"-m", "-mu", "-hf", "-hff"}:
        reading.model_words += words
        reading.model[name] = words[1]
    elif name in {"--host", "--port", "-a", "--alias"}:
        reading.address[words[0]] = words[1]
    elif name in HANDLERS:
        _apply(reading, name, words[-1])
    elif name != "-fitt":
        reading.others += words


def _apply(reading: _Reading, name: str, value: str) -> None:
    if name in {"-m", "-mu", "-hf", "-hff"}:
        reading.model[name] = value
        return
    try:
        HANDLERS[name](reading.settings, value)
    except (ValueError, KeyError):
        raise UsageError(f"llama-server would not take {name} {value}", hint="launcher engine info") from None


def _model(named: Mapping[str, str]) -> str | None:
    """The REF: a repo wins over a path, which then only says where to keep the file."""
    if "-hf" in named:
        return (
            f"hf:{named['-hf'].partition(':')[0]}/{named['-hff']}"
            if "-hff" in named
            else f"hf:{named['-hf']}"
        )
    if "-mu" in named:
        return named["-mu"]
    path = named.get("-m")
    if path is None or path.startswith(("/", "./", "../", "~/")):
        return path
    return f"./{path}"
