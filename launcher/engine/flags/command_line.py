"""Read a llama-server command line: its model, what it says about memory, what is wrong with it. Pure.

Follows common_params_parse_ex (common/arg.cpp at 0c1e570): variables before flags, the last of equal flags
wins, overrides add up. Removed flags are read for what they meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from launcher.engine.flags.help_text import Option
from launcher.engine.flags.ik_flags import IK_ALONE
from launcher.engine.flags.memory_flags import AUTO, FALSE, HANDLERS, TRUE, MemorySettings
from launcher.engine.flags.memory_names import FIRST_SPELLING, MEMORY_VARIABLES, OPPOSITE
from launcher.engine.flags.pinned_flags import PINNED_ARITIES, REMOVED_FLAGS
from launcher.engine.flags.rope_flags import read_rope
from launcher.engine.flags.shell_words import take_apart
from launcher.engine.flags.user_flags import is_flag, split_flags
from launcher.errors import UsageError
from launcher.plan.check.configuration import Configuration
from launcher.plan.modes import Dialect, LazyMode, LoadMode

_NOT_COUNTED = {
    "--lora": "the adapter",
    "--lora-scaled": "the adapter",
    "--control-vector": "the control vector",
    "--control-vector-scaled": "the control vector",
    "-mv": "the vocoder",
    "--moe-cache-mib": "the cache of experts",
}
# Variables for companions (set_env in common/arg.cpp), and the flags that they stand for.
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
_COMPANION_OPPOSITES = {"--mmproj-offload": "--no-mmproj-offload"}
# Flags under which a repo's projector is not loaded (common_models_handler_init, common/arg.cpp).
_NO_REPO_PROJECTOR = frozenset({"--no-mmproj", "--no-mmproj-auto", "-mm", "--mmproj", "-mmu", "--mmproj-url"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A llama-server command line, read."""

    program: str
    variables: tuple[tuple[str, str], ...]
    model: str | None  # a REF as launcher takes it
    model_words: tuple[str, ...]  # the words that name it
    configuration: Configuration
    address: tuple[tuple[str, str], ...]  # --host, --port and --alias
    others: tuple[str, ...]  # flags that do not concern the model's own memory; companions' are among them
    repo: str | None  # the REF of the repo whose projector is loaded without being named
    refused: tuple[str, ...]  # sentences on words that this llama-server would not take
    notes: tuple[str, ...]  # sentences on what is not in the ledger
    corrected: tuple[str, ...]  # the flags as this llama-server takes them
    dialect: Dialect  # IK: the line has flags that only ik_llama.cpp knows


@dataclass(slots=True)
class _Reading:
    """The command line as far as it has been read."""

    settings: MemorySettings = field(default_factory=MemorySettings)
    model: dict[str, str] = field(default_factory=dict)
    model_words: list[str] = field(default_factory=list)
    address: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    corrected: list[str] = field(default_factory=list)
    of_ik: list[str] = field(default_factory=list)  # flags that only ik_llama.cpp knows
    loads: list[str] = field(default_factory=list)  # removed flags that --load-mode replaces; the last wins


def arities_of(options: Iterable[Option]) -> dict[str, int]:
    """Return how many words follow each flag of an engine, from its `--help`."""
    return {
        spelling: 0 if option.hint is None else 2 if option.hint == "START END" else 1
        for option in options
        for spelling in option.spellings
    }


def read_command(words: Sequence[str], arities: Mapping[str, int] = PINNED_ARITIES) -> Command:
    """Read a command line, given as words or as one string, with or without the program.

    `arities` are the flags of the engine in use. Raises UsageError for values llama-server would refuse.
    """
    call = take_apart(words)
    reading = _Reading()
    for variable, value in call.variables:
        name = MEMORY_VARIABLES.get(variable)
        if name is not None:
            _apply_variable(reading, name, value, arities)
        elif variable in _COMPANION_VARIABLES:
            reading.others += _flag_of_variable(_COMPANION_VARIABLES[variable], value, arities)
    at = 0
    while at < len(call.flags):
        at += _read_flag(reading, call.flags[at:], arities)
    _put_rpc_first(reading)
    loads_projector = "-hf" in reading.model and not _NO_REPO_PROJECTOR & set(reading.others)
    return Command(
        program=call.program,
        variables=call.variables,
        model=_model_ref(reading.model),
        model_words=tuple(reading.model_words),
        configuration=_configuration(reading, arities),
        address=tuple(reading.address.items()),
        others=tuple(reading.others),
        repo=_model_ref(reading.model) if loads_projector else None,
        refused=tuple(reading.refused),
        notes=(*dict.fromkeys(reading.notes), *_note_of_ik(reading)),
        corrected=(*reading.corrected, *_load_words(reading)),
        dialect=Dialect.IK if reading.of_ik else Dialect.LLAMA_CPP,
    )


def _note_of_ik(reading: _Reading) -> tuple[str, ...]:
    if not reading.of_ik:
        return ()
    flags = ", ".join(dict.fromkeys(reading.of_ik))
    return (
        f"{flags}: only ik_llama.cpp has that, so speeds are its own; memory is what llama.cpp would take",
    )


def _put_rpc_first(reading: _Reading) -> None:
    """Refuse flags that name a peer's devices before --rpc, and correct their order."""
    # flags are read in their order, and --rpc is what makes the devices (add_rpc_devices, common/arg.cpp)
    rules = list(split_flags(reading.corrected))
    first = next((at for at, (name, _) in enumerate(rules) if name == "--rpc"), None)
    if first is None:
        return
    early = [words for name, words in rules[:first] if name in {"-dev", "-ot"} and "RPC" in words[-1]]
    if early:
        reading.refused.append(f"{' '.join(early[0])} comes before --rpc, which makes its devices")
        peers = [word for name, words in rules if name == "--rpc" for word in words]
        others = [word for name, words in rules if name != "--rpc" for word in words]
        reading.corrected = [*peers, *others]


def _configuration(reading: _Reading, arities: Mapping[str, int]) -> Configuration:
    configuration = replace(reading.settings.settle(), rope=read_rope(reading.others))
    # an engine without the flag loads every tensor
    return configuration if "-lzm" in arities else replace(configuration, lazy_mode=LazyMode.OFF)


def _load_words(reading: _Reading) -> tuple[str, ...]:
    """Return the --load-mode that replaces the removed flags."""
    # They add up: --no-mmap --mlock read the weights and locked them.
    if {"--no-mmap", "--mlock"} <= set(reading.loads):
        mode = reading.settings.settle().load_mode
        return ("--load-mode", "mlock" if mode is LoadMode.MLOCK else "mmap+mlock")
    return tuple(REMOVED_FLAGS[reading.loads[-1]][1].split()) if reading.loads else ()


def _apply_variable(reading: _Reading, name: str, value: str, arities: Mapping[str, int]) -> None:
    if arities.get(name, 0):
        _apply(reading, name, value)
    elif value in TRUE:
        _apply(reading, name, "")
    elif value in FALSE and name in OPPOSITE:
        _apply(reading, OPPOSITE[name], "")


def _flag_of_variable(flag: str, value: str, arities: Mapping[str, int]) -> tuple[str, ...]:
    """Return the flag that a variable stands for, with its value."""
    if arities.get(flag, 0):
        return (flag, value)
    if value in TRUE:
        return (flag,)
    return (_COMPANION_OPPOSITES[flag],) if value in FALSE and flag in _COMPANION_OPPOSITES else ()


def _read_flag(reading: _Reading, words: Sequence[str], arities: Mapping[str, int]) -> int:
    """Read the flag that `words` begin with. Returns the number of words read."""
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
    _sort_in(reading, name, (flag, *values))
    return 1 + len(values)


def _read_unknown(reading: _Reading, flag: str, words: Sequence[str]) -> int:
    removed = REMOVED_FLAGS.get(flag)
    if removed is not None:
        n_values, now = removed
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
        reading.of_ik += [flag] if flag in IK_ALONE else []
    name = FIRST_SPELLING.get(flag, flag)
    if name in HANDLERS:
        _apply(reading, name, words[1] if n_values and len(words) > 1 else "")
    return min(1 + n_values, len(words))


def _sort_in(reading: _Reading, name: str, words: tuple[str, ...]) -> None:
    if name in _NOT_COUNTED:
        reading.notes.append(f"{' '.join(words)}: {_NOT_COUNTED[name]} is not in the ledger")
        reading.others += words
    elif name in {"-m", "-mu", "-hf", "-hff"}:
        reading.model_words += words
        reading.model[name] = words[1]
    elif name in {"--host", "--port", "-a", "--alias"}:
        reading.address[words[0]] = words[1]
    elif name in HANDLERS:
        _apply(reading, name, words[-1])
    else:
        reading.others += words


def _apply(reading: _Reading, name: str, value: str) -> None:
    if name in {"-m", "-mu", "-hf", "-hff"}:
        reading.model[name] = value
        return
    try:
        HANDLERS[name](reading.settings, value)
    except (ValueError, KeyError):
        raise UsageError(f"llama-server would not take {name} {value}", hint="launcher engine info") from None


def _model_ref(named: Mapping[str, str]) -> str | None:
    """Return the model as a REF. A repo wins over a path, which only says where to keep the file."""
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
