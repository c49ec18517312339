"""Tell llama.cpp's server from ik_llama.cpp's by its help, and know what that help leaves out. Pure.

ik_llama.cpp left llama.cpp in 2024. Its flags are read from its `--help`, which lists some under one of their
names, some without the value that they take, and some not at all; these are in the tables here, from
gpt_params_find_arg (common/common.cpp of ik-llama-cpp-python 0.1.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from launcher.engine.flags.help_text import Option
from launcher.errors import BadGguf
from launcher.gguf.ggml import IK_TYPES, NOT_IN_IK
from launcher.gguf.tensors import TensorInfo
from launcher.plan.modes import Dialect

# What only its help has: https://github.com/ikawrakow/ik_llama.cpp, common_params of 2025 and 2026.
_SIGNS = ("--run-time-repack", "--mla-use", "--attention-max-batch")

# Flags with all their names, which its help gives only in part.
_NAMES = """
    -a --alias | -n --predict --n-predict | -ngl --gpu-layers --n-gpu-layers | -ot --override-tensor
    -ngld --gpu-layers-draft --n-gpu-layers-draft | --embedding --embeddings | -to --timeout
    -rtr --run-time-repack | -cmoe --cpu-moe | -ncmoe --n-cpu-moe | -l --logit-bias
    -cram-n-min --cache-ram-n-min | --audio | --mmproj-url | --no-mmproj-offload
    -thp --transparent-huge-pages | -fdn --fused-delta-net | -op --offload-policy
    -no-ooae --no-offload-only-active-experts | -wb --warmup-batch | -spf --system-prompt-file
    -sas --scheduler-async | --dry-multiplier | --dry-base | --dry-allowed-length
    --dry-penalty-last-n | --dry-sequence-breaker | -mla --mla-use | -amb --attention-max-batch
    -ser --smart-expert-reduction | -mea --max-extra-alloc | -grt --graph-reduce-type
    -cuda --cuda-params | -draft --draft-params
"""
_GROUPS = tuple(
    tuple(group.split()) for line in _NAMES.strip().splitlines() for group in line.split("|") if group.strip()
)
# Of these, by their first name, those without a value; the rest take one.
_SWITCHES = frozenset(
    {"--embedding", "-rtr", "-cmoe", "--no-mmproj-offload", "-thp", "-no-ooae", "-wb", "-sas"}
)


def dialect_of(options: Iterable[Option]) -> Dialect:
    """Return the dialect of a server with these options."""
    spellings = {spelling for option in options for spelling in option.spellings}
    return Dialect.IK if all(sign in spellings for sign in _SIGNS) else Dialect.LLAMA_CPP


def complete(options: Sequence[Option]) -> tuple[Option, ...]:
    """Return the options of a `--help` with what it leaves out, if it is ik_llama.cpp's."""
    if dialect_of(options) is not Dialect.IK:
        return tuple(options)
    known = {spelling: group for group in _GROUPS for spelling in group}
    listed = {spelling for option in options for spelling in option.spellings}
    return (*(_named(option, known) for option in options), *_unlisted(listed))


def _named(option: Option, known: dict[str, tuple[str, ...]]) -> Option:
    group = next((known[spelling] for spelling in option.spellings if spelling in known), None)
    if group is None:
        return option
    hint = None if group[0] in _SWITCHES else option.hint or "N"
    return replace(option, spellings=group, hint=hint)


def _unlisted(listed: set[str]) -> Iterator[Option]:
    for group in _GROUPS:
        if not listed.intersection(group):
            hint = None if group[0] in _SWITCHES else "N"
            yield Option(spellings=group, hint=hint, values=(), default=None, env=None, help="")


def check_types(model_id: str, tensors: Iterable[TensorInfo], dialect: Dialect | None) -> None:
    """Raise BadGguf for a tensor whose type this engine cannot load; `dialect` None stands for llama.cpp."""
    foreign = NOT_IN_IK if dialect is Dialect.IK else IK_TYPES
    tensor = next((tensor for tensor in tensors if tensor.type in foreign), None)
    if tensor is None:
        return
    what = f"{model_id}: tensor {tensor.name!r} is {tensor.type.name}"
    if dialect is Dialect.IK:
        raise BadGguf(
            f"{what}, which ik_llama.cpp does not know", hint="plan with llama.cpp, or choose another quant"
        )
    raise BadGguf(
        f"{what}, which only ik_llama.cpp knows",
        hint="launcher engine build --source DIR builds it from its tree, then --engine NAME; "
        "or choose another quant",
    )
