"""Sort the flags after `--`: those that the planner plans with, and those for llama-server alone. Pure.

Spellings from llama.cpp common/arg.cpp, 0c1e570; the first spelling of an option names it here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

from launcher.engine.flags.memory_flags import HANDLERS, OFFLOADS, OUTPUTS, OVERRIDES, MemorySettings
from launcher.errors import UsageError
from launcher.plan.modes import CacheType, FlashAttention, LazyMode, LoadMode, NumaMode, Pooling
from launcher.plan.workload import Workload
from launcher.units import MIB

SPELLINGS: tuple[tuple[str, ...], ...] = (
    ("-m", "--model"),
    ("-a", "--alias"),
    ("--host",),
    ("--port",),
    ("--api-key-file",),
    ("-fit", "--fit"),
    ("-c", "--ctx-size"),
    ("-np", "--parallel"),
    ("-kvu", "--kv-unified"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-b", "--batch-size"),
    ("-ub", "--ubatch-size"),
    ("-fa", "--flash-attn"),
    ("-dev", "--device"),
    ("-ngl", "--n-gpu-layers", "--gpu-layers"),
    ("-sm", "--split-mode"),
    ("-ts", "--tensor-split"),
    ("-ot", "--override-tensor"),
    ("-cmoe", "--cpu-moe"),
    ("-ncmoe", "--n-cpu-moe"),
    ("-ncffn", "--n-cpu-ffn"),
    ("-lm", "--load-mode"),
    ("-lzm", "--lazy-mode"),
    ("-t", "--threads"),
    ("--embedding", "--embeddings"),
    ("--rerank", "--reranking"),
    ("--pooling",),
    ("-tb", "--threads-batch"),
    ("-cram", "--cache-ram"),
    ("-ctxcp", "--ctx-checkpoints", "--swa-checkpoints"),
    ("-lv", "--verbosity", "--log-verbosity"),
    ("-mla", "--mla-use"),
    ("-amb", "--attention-max-batch"),
    ("-mm", "--mmproj"),
    ("-mmu", "--mmproj-url"),
    ("-mmdev", "--mmproj-device"),
    ("-md", "--spec-draft-model", "--model-draft"),
    ("-hfd", "--spec-draft-hf", "-hfrd", "--hf-repo-draft"),
    ("-devd", "--spec-draft-device", "--device-draft"),
    ("-ngld", "--spec-draft-ngl", "--gpu-layers-draft", "--n-gpu-layers-draft"),
    ("-ctkd", "--spec-draft-type-k", "--cache-type-k-draft"),
    ("-ctvd", "--spec-draft-type-v", "--cache-type-v-draft"),
    ("-otd", "--spec-draft-override-tensor", "--override-tensor-draft"),
    ("-cmoed", "--spec-draft-cpu-moe", "--cpu-moe-draft"),
    ("-ncmoed", "--spec-draft-n-cpu-moe", "--spec-draft-ncmoe", "--n-cpu-moe-draft"),
    ("--lora",),
    ("--lora-scaled",),
    ("--control-vector",),
    ("--control-vector-scaled",),
)
_FIRST_SPELLING = {spelling: spellings[0] for spellings in SPELLINGS for spelling in spellings}

_WORKLOAD_FIELDS = {
    "-c": "ctx_size",
    "-np": "n_parallel",
    "-ctk": "cache_type_k",
    "-ctv": "cache_type_v",
    "-b": "batch_size",
    "-ub": "ubatch_size",
    "-fa": "flash_attn",
    "-cram": "cache_ram_bytes",
    "-lm": "load_mode",
    "-lzm": "lazy_mode",
    "--numa": "numa",
}
_KINDS: dict[str, type[StrEnum]] = {
    "-ctk": CacheType,
    "-ctv": CacheType,
    "-fa": FlashAttention,
    "-lm": LoadMode,
    "-lzm": LazyMode,
    "--numa": NumaMode,
}
# Flags that ask for what a `Workload` asks for.
WORKLOAD_FLAGS = frozenset(_WORKLOAD_FIELDS)
# Those that ask for several things, or add to one another; and the hint for a value that is none.
_READ_AS_CHECK = {
    **dict.fromkeys(OVERRIDES, "-ot PATTERN=CPU, or a device for CPU; -ncmoe a number of blocks"),
    **dict.fromkeys(OUTPUTS, f"--pooling {', '.join(Pooling)}"),
    **dict.fromkeys(OFFLOADS, "--op-offload or --no-op-offload, without a value"),
}
_WITHOUT_VALUE = frozenset({"-cmoe", "--embedding", "--rerank", *OFFLOADS})

# Flags that load files which are not in the ledger. A --lora is counted by its size, companions are planned
# (`companion_flags`).
_UNCOUNTED_FLAGS = ("--lora-scaled", "--control-vector", "--control-vector-scaled")


def is_flag(word: str) -> bool:
    """Tell if a word is a flag: a dash and a letter, or two dashes. `-1` and `-0.5` are values."""
    return len(word) > 1 and word[0] == "-" and not word[1].isdecimal() and word[1] != "."


def split_flags(flags: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every flag with its values: (first spelling, the words as typed)."""
    words: list[str] = []
    for word in flags:
        if words and not is_flag(word):
            words.append(word)
            continue
        if words:
            yield _FIRST_SPELLING.get(words[0], words[0]), tuple(words)
        words = [word]
    if words:
        yield _FIRST_SPELLING.get(words[0], words[0]), tuple(words)


def take_token(flags: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """Return the flags without --hf-token, and its value: it goes by environment, which nobody else sees."""
    token: str | None = None
    rest: list[str] = []
    for _, words in split_flags(flags):
        if words[0].replace("_", "-") in {"--hf-token", "-hft"} and len(words) == 2:
            token = words[1]
        else:
            rest += words
    return tuple(rest), token


def absorb_flags(flags: Sequence[str], workload: Workload) -> tuple[Workload, tuple[str, ...]]:
    """Return the workload with what these flags ask of the planner, and the flags that are left.

    Raises UsageError for values llama-server would refuse, and for contradicting requests.
    """
    default = Workload()
    requested: dict[str, Any] = {}
    as_check = MemorySettings()
    rest: list[str] = []
    for name, words in split_flags(flags):
        if name in _READ_AS_CHECK:
            _read_as_check(as_check, name, words)
            continue
        if name not in WORKLOAD_FLAGS:
            rest += words
            continue
        field = _WORKLOAD_FIELDS[name]
        value = _read_value(name, words)
        before = requested.get(field, getattr(workload, field))
        if before not in (value, getattr(default, field)):
            raise UsageError(f"{' '.join(words)} comes after another {words[0]} that says {before}")
        requested[field] = value
    requested |= as_check.fields
    return replace(workload, **requested, overrides=(*workload.overrides, *as_check.overrides)), tuple(rest)


def without_flags(
    words: Sequence[str], workload: Workload, flags: Sequence[str]
) -> tuple[Workload, tuple[str, ...]]:
    """Return the request without what `words` set otherwise."""
    names = _named(words)
    default = Workload()
    opened = {field: getattr(default, field) for name, field in _WORKLOAD_FIELDS.items() if name in names}
    kept = (word for name, given in split_flags(flags) if name not in names for word in given)
    return replace(workload, **opened), tuple(kept)


def carried_flags(flags: Sequence[str], typed: Sequence[str], workload: Workload) -> tuple[str, ...]:
    """Return the flags of a profile that the user did not give otherwise: after `--`, or in the request."""
    given = _named(typed)
    given |= {
        name
        for name, field in _WORKLOAD_FIELDS.items()
        if getattr(workload, field) != getattr(Workload(), field)
    }
    return tuple(word for name, words in split_flags(flags) if name not in given for word in words)


def _named(flags: Sequence[str]) -> set[str]:
    """Return the names of the flags; a switch stands for its opposite, too."""
    names = {name for name, _ in split_flags(flags)}
    return names | OFFLOADS if names & OFFLOADS else names


def _read_as_check(settings: MemorySettings, name: str, words: tuple[str, ...]) -> None:
    """Read an override, a flag of embeddings, or a switch of op offload, as `check` does."""
    takes_value = name not in _WITHOUT_VALUE
    if len(words) != 1 + takes_value:
        raise UsageError(f"{words[0]} after -- takes {'one value' if takes_value else 'no value'}")
    try:
        HANDLERS[name](settings, words[-1])
    except ValueError:
        raise UsageError(
            f"{' '.join(words)} after -- is nothing llama-server would take", hint=_READ_AS_CHECK[name]
        ) from None


def adapter_files(flags: Sequence[str]) -> Iterator[str]:
    """Yield the files that --lora names."""
    for name, words in split_flags(flags):
        if name == "--lora":
            for text in words[1:]:
                yield from text.split(",")


def uncounted_notes(flags: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence for every flag whose memory comes on top of the ledger."""
    return tuple(
        f"{' '.join(words)} is not in the ledger: its memory comes on top"
        for name, words in split_flags(flags)
        if name in _UNCOUNTED_FLAGS
    )


def _read_value(name: str, words: tuple[str, ...]) -> object:
    if len(words) != 2:
        raise UsageError(f"{words[0]} after -- takes one value")
    text = words[1]
    try:
        if name in _KINDS:
            return _KINDS[name](text)
        number = int(text)
    except ValueError:
        raise UsageError(f"{words[0]} {text} after -- is nothing that can be planned for") from None
    least = 0 if name == "-cram" else 1
    if number < least:
        raise UsageError(f"{words[0]} {text} after -- is less than {least}")
    return number * MIB if name == "-cram" else number
