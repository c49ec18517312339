"""Write a plan as llama-server's command line, in the spellings that one binary has. Pure.

Every choice is explicit and `--fit` off. What a user adds after `--` goes last and wins; what would make the
plan untrue is refused by name. An API key is never on the command line, only the path of its file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from launcher.engine.flags import ik_flags
from launcher.engine.flags.argv_builder import ArgvBuilder, KnownFlags
from launcher.engine.flags.companion_flags import names_remote_file
from launcher.engine.flags.refused_flags import FATAL, LAUNCHERS_OWN, MOVES_MEMORY
from launcher.engine.flags.taskset import taskset_prefix
from launcher.engine.flags.user_flags import WORKLOAD_FLAGS, is_flag, split_flags
from launcher.errors import UsageError
from launcher.plan.expert_pattern import placement_overrides
from launcher.plan.modes import Dialect, LazyMode, LoadMode, Pooling
from launcher.plan.overrides import format_override
from launcher.plan.plan import Plan
from launcher.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The address and the name that a model is served under."""

    host: str
    port: int
    model_id: str
    model_path: str
    api_key_file: str | None = None


# Options with which the plan says where things are. Given after `--` they must say the same.
_PLAN_FLAGS = frozenset({"-dev", "-ngl", "-sm", "-ts", "-ot", "-kvu", "-fit", "-ctxcp", "-mla", "-amb"})

# Values of `--split-mode` under which a device holds parts of tensors.
_TENSOR_SPLIT_MODES = ("row", "tensor")


def server_argv(
    plan: Plan,
    serving: Serving,
    *,
    program: str = "llama-server",
    capabilities: KnownFlags | None = None,
    profile_flags: Sequence[str] = (),
    user_flags: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the whole command line. `capabilities` None stands for the pinned engine.

    Raises UsageError if the engine lacks an option that the plan needs, or a user flag contradicts the plan.
    """
    builder = ArgvBuilder(capabilities)
    is_ik = plan.dialect is Dialect.IK
    if is_ik:
        ik_flags.check_plan(plan, builder)
    _add_server(builder, serving)
    _add_memory(builder, plan)
    _add_placement(builder, plan)
    _add_load_mode(builder, plan)
    builder.add("-t", str(plan.threads), "its threads")
    builder.add("-tb", str(plan.threads), "its threads")
    if plan.numa is not None:
        builder.add("--numa", plan.numa, "memory on several NUMA nodes")
    builder.add_if_known("--metrics")
    if not names_remote_file(user_flags):  # llama-server downloads such a file itself
        builder.add_if_known("--offline")
    builder.add_if_known("-lv", "4")  # below 4 the log leaves out the buffer sizes
    if is_ik:
        ik_flags.translate(builder)
    _check_profile_flags(profile_flags, capabilities)
    _check_user_flags(builder, profile_flags)  # those in a lock may be anything
    user = _check_user_flags(builder, user_flags)
    if is_ik:
        ik_flags.check_user_flags(plan, user)
    given = {name for name, _ in split_flags(user_flags)}
    argv = [*taskset_prefix(plan.cpus), program]
    for name, spelling, value in builder.parts:
        if name not in given:
            argv += [spelling] if value is None else [spelling, value]
    return (*argv, *profile_flags, *user)


def _add_server(builder: ArgvBuilder, serving: Serving) -> None:
    builder.add("-m", serving.model_path, "the model")
    builder.add("-a", serving.model_id, "the model's name")
    builder.add("--host", serving.host, "its address")
    builder.add("--port", str(serving.port), "its address")
    if serving.api_key_file is not None:
        builder.add("--api-key-file", serving.api_key_file, "access control")


def _add_memory(builder: ArgvBuilder, plan: Plan) -> None:
    builder.add_if_known("-fit", "off")  # an engine without it has nothing to switch off
    builder.add("-c", str(plan.ctx_size), "its context")
    builder.add("-np", str(plan.n_parallel), "its slots")
    if plan.n_parallel > 1:
        builder.add("-kvu", None, "slots that share one context")
    else:
        builder.add_if_known("-kvu")
    builder.add("-b", str(plan.batch_size), "its batch size")
    builder.add("-ub", str(plan.ubatch_size), "its batch size")
    _add_outputs(builder, plan)
    builder.add("-ctk", plan.cache_type_k, "its KV cache")
    builder.add("-ctv", plan.cache_type_v, "its KV cache")
    builder.add("-fa", plan.flash_attn, "flash attention")
    if not plan.op_offload:
        builder.add("--no-op-offload", None, "prompts that the host computes with its own weights")
    builder.add_if_known(
        "-cram", str(plan.cache_ram_bytes // MIB)
    )  # an engine without it keeps no such cache
    builder.add_if_known("-ctxcp", str(plan.ctx_checkpoints))


def _add_outputs(builder: ArgvBuilder, plan: Plan) -> None:
    if plan.embedding and plan.pooling is Pooling.RANK:
        builder.add("--rerank", None, "reranking")
        return
    if plan.embedding:
        builder.add("--embedding", None, "embeddings")
    if plan.pooling is not None:
        builder.add("--pooling", plan.pooling, "embeddings")


def _add_placement(builder: ArgvBuilder, plan: Plan) -> None:
    placement = plan.placement
    if plan.peers:
        # before the flags that name their devices
        endpoints = dict.fromkeys(peer.endpoint for peer in plan.peers)
        builder.add("--rpc", ",".join(endpoints), "devices of peers")
    builder.add("-dev", ",".join(placement.devices) or "none", "its devices")
    builder.add("-ngl", str(placement.n_gpu_layers), "its devices")
    if len(placement.devices) > 1:
        builder.add("-sm", "layer", "several devices")
        builder.add("-ts", ",".join(str(count) for count in placement.tensor_split), "several devices")
    overrides = placement_overrides(placement)
    if overrides:
        names = {f"RPC{index}": peer.buffer_name for index, peer in enumerate(plan.peers)}
        rules = [replace(rule, where=names.get(rule.where, rule.where)) for rule in overrides]
        builder.add("-ot", ",".join(map(format_override, rules)), "single tensors' places")


def _add_load_mode(builder: ArgvBuilder, plan: Plan) -> None:
    if plan.lazy_mode is LazyMode.OFF:
        builder.add_if_known("-lzm", plan.lazy_mode)  # an engine without it loads every tensor
    elif plan.lazy_mode is LazyMode.ON:
        builder.add("-lzm", plan.lazy_mode, "tables that are read from the file")
    # --load-mode replaced --no-mmap and --mlock (common/arg.cpp); an engine has the one or the others.
    if builder.knows("-lm", "--load-mode") is not None:
        builder.add("-lm", plan.load_mode, "its load mode")
    elif plan.load_mode is LoadMode.NONE:
        builder.add("--no-mmap", None, "load mode none")
    elif plan.load_mode is LoadMode.MLOCK:
        builder.add("--mlock", None, "load mode mlock")
    if plan.placement.paged_bytes:
        # Repacked weights are no pages of the file: the kernel could not drop them.
        builder.add("-nr", None, "experts that are read from the file as they are used")


def _check_profile_flags(flags: Sequence[str], capabilities: KnownFlags | None) -> None:
    for _, words in split_flags(flags):
        if capabilities is not None and not capabilities.has(words[0]):
            raise UsageError(
                f"this llama-server has no {words[0]}, and the model's profile sets it",
                hint="launcher engine update",
            )


def check_flags(
    flags: Sequence[str], has: Callable[[str], bool] | None, planned: Collection[str] = ()
) -> None:
    """Raise UsageError for user flags that go with no plan, except those that are `planned`.

    `has` tells if llama-server has a flag, None if that is not known.
    """
    for name, words in split_flags(flags):
        flag, value = words[0], " ".join(words[1:])
        if not is_flag(flag):
            what = "a URL" if "://" in flag else repr(flag)  # it may have a password in it
            raise UsageError(f"{what} after -- is not a flag", hint="flags after -- begin with a dash")
        if has is not None and not has(flag):
            raise UsageError(f"this llama-server has no flag {flag}", hint="launcher engine info")
        if name in LAUNCHERS_OWN:
            raise UsageError(f"{flag} after -- is launcher's to set", hint=LAUNCHERS_OWN[name])
        if flag in FATAL:
            raise UsageError(f"{flag} after -- cannot be: {FATAL[flag]}", hint=f"leave {flag} out")
        if flag in MOVES_MEMORY and flag not in planned:
            raise UsageError(
                f"{flag} after -- would move memory that the plan has placed", hint=f"leave {flag} out"
            )
        if name == "-sm" and value in _TENSOR_SPLIT_MODES:
            raise UsageError(
                f"{flag} {value} after -- divides tensors, and a plan places whole layers",
                hint=f"launcher check REF -- {flag} {value} says whether that fits",
            )


def _check_user_flags(builder: ArgvBuilder, flags: Sequence[str]) -> tuple[str, ...]:
    """Return the user's flags. Raises UsageError for one that contradicts the plan."""
    planned: Mapping[str, str | None] = {"-sm": "layer", **{name: value for name, _, value in builder.parts}}
    check_flags(flags, builder.flags.has if builder.flags else None, planned)
    checked: list[str] = []
    for name, words in split_flags(flags):
        flag, value = words[0], " ".join(words[1:])
        if name in WORKLOAD_FLAGS | _PLAN_FLAGS and planned.get(name, "") != (value or None):
            in_plan = _planned(flag, planned.get(name))
            raise UsageError(
                f"{' '.join(words)} after -- contradicts the plan, which has {in_plan}",
                hint=f"give {' '.join(words)} before --" if name in WORKLOAD_FLAGS else f"leave {flag} out",
            )
        checked += words
    return tuple(checked)


def _planned(flag: str, value: str | None) -> str:
    return flag if value is None else f"{flag} {value}"
