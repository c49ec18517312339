"""A plan in llama-server's dialect: every choice explicit, `--fit off`, compiled for the flags one binary has.

It knows spellings, old and new, and which of them a plan owns. What a user adds after `--` goes last and wins,
unless it would make the plan untrue: then it is refused by name. A key never appears here, only its file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from launcher.engine.flags.companion_flags import names_remote_file
from launcher.engine.flags.taskset import taskset_prefix
from launcher.engine.flags.user_flags import SPELLINGS, WORKLOAD_FLAGS, is_flag, split_flags
from launcher.errors import UsageError
from launcher.plan.expert_pattern import placement_overrides
from launcher.plan.modes import LoadMode
from launcher.plan.overrides import format_override
from launcher.plan.plan import Plan
from launcher.units import MIB


class KnownFlags(Protocol):
    """What is asked of an engine's `Capabilities`."""

    def has(self, spelling: str) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where a model is served, and under which name."""

    host: str
    port: int
    model_id: str
    model_path: str
    api_key_file: str | None = None


_PLACES = frozenset({"-dev", "-ngl", "-sm", "-ts", "-ot", "-kvu", "-fit", "-ctxcp"})
"""Options that say what the plan says already."""

_SPLITS_TENSORS = ("row", "tensor")
"""Values of `--split-mode` under which a device holds parts of tensors."""

_MOVES = frozenset(
    [
        "-cmoe",
        "--cpu-moe",
        "-ncmoe",
        "--n-cpu-moe",
        "-ncffn",
        "--n-cpu-ffn",
        "-no-kvu",
        "--no-kv-unified",
        "-nkvo",
        "--no-kv-offload",
        "-mg",
        "--main-gpu",
        "--swa-full",
        "--no-op-offload",
        "--no-host",
        "--rpc",
        "-fitt",
        "--fit-target",
        "-fitc",
        "--fit-ctx",
        "--mmap",
        "--no-mmap",
        "--mlock",
    ]
)
"""Options a plan never writes because they would move memory behind its back."""

_OWNED = {
    "-m": "launcher plan REF, or up REF: the reference names the model",
    **dict.fromkeys(
        ("-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-mu", "--model-url", "-dr", "--docker-repo"),
        "launcher plan REF, or up REF: the reference names the model",
    ),
    "--host": "launcher up REF --host ADDRESS (plan leaves the address open)",
    "--port": "launcher up REF --port N (plan leaves the port open)",
    "--api-key-file": "launcher up REF --api-key-file FILE",
    "--api-key": "launcher up REF --api-key-file FILE",  # a key in argv is a key in everybody's `ps`
}
"""Options of the server itself, and what to type instead."""

_FATAL = {
    "--api-prefix": "nothing would find the server's health and models any more",
    "--log-disable": "its log is how a failure is explained",
    "--log-file": "its log is launcher's: launcher logs",
    "--version": "llama-server would print it and end",
    "--help": "llama-server would print it and end",
    "-h": "llama-server would print it and end",
    "--usage": "llama-server would print it and end",
    "--list-devices": "llama-server would print them and end",
    "--completion-bash": "llama-server would print it and end",
}
"""Options after which there is no server to watch, and why."""


@dataclass(slots=True)
class _Line:
    """The command line as it grows: (option's name, spelling, value) for one engine."""

    flags: KnownFlags | None
    parts: list[tuple[str, str, str | None]] = field(default_factory=list)

    def knows(self, *spellings: str) -> str | None:
        """The first spelling the engine has. Without an engine at hand, the pinned one's: the first."""
        if self.flags is None:
            return spellings[0]
        return next((spelling for spelling in spellings if self.flags.has(spelling)), None)

    def add(self, name: str, value: str | None, why: str) -> None:
        """An option the plan needs. Raises UsageError where the engine has none of its spellings."""
        spellings = next((group for group in SPELLINGS if group[0] == name), (name,))
        spelling = self.knows(*spellings)
        if spelling is None:
            raise UsageError(
                f"this llama-server has no {spellings[-1]}, and the plan needs it for {why}",
                hint="launcher engine build, or --engine with a newer llama-server",
            )
        self.parts.append((name, spelling, value))

    def add_if_known(self, name: str, value: str | None = None) -> None:
        """An option that is only good to have."""
        spelling = self.knows(*next((group for group in SPELLINGS if group[0] == name), (name,)))
        if spelling is not None:
            self.parts.append((name, spelling, value))


def server_argv(
    plan: Plan,
    serving: Serving,
    *,
    program: str = "llama-server",
    capabilities: KnownFlags | None = None,
    profile_flags: Sequence[str] = (),
    user_flags: Sequence[str] = (),
) -> tuple[str, ...]:
    """The whole command line. `capabilities` None is the pinned engine; `profile_flags` are the model's sampling.

    Raises UsageError for an option the plan needs and the engine lacks, and for user flags that contradict it.
    """
    line = _Line(capabilities)
    _add_server(line, serving)
    _add_memory(line, plan)
    _add_placement(line, plan)
    _add_load_mode(line, plan)
    line.add("-t", str(plan.threads), "its threads")
    line.add("-tb", str(plan.threads), "its threads")
    if plan.numa is not None:
        line.add("--numa", plan.numa, "memory on several NUMA nodes")
    line.add_if_known("--metrics")
    if not names_remote_file(
        user_flags
    ):  # what is still elsewhere, the one who runs this line has llama-server fetch
        line.add_if_known("--offline")
    line.add_if_known("-lv", "4")  # below 4 the log leaves out the buffer sizes
    _check_profile_flags(profile_flags, capabilities)
    user = _check_user_flags(line, user_flags)
    given = {name for name, _ in split_flags(user_flags)}
    argv = [*taskset_prefix(plan.cpus), program]
    for name, spelling, value in line.parts:
        if name not in given:
            argv += [spelling] if value is None else [spelling, value]
    return (*argv, *profile_flags, *user)


def _add_server(line: _Line, serving: Serving) -> None:
    line.add("-m", serving.model_path, "the model")
    line.add("-a", serving.model_id, "the model's name")
    line.add("--host", serving.host, "its address")
    line.add("--port", str(serving.port), "its address")
    if serving.api_key_file is not None:
        line.add("--api-key-file", serving.api_key_file, "access control")


def _add_memory(line: _Line, plan: Plan) -> None:
    line.add_if_known("-fit", "off")  # an engine without it has nothing to switch off
    line.add("-c", str(plan.ctx_size), "its context")
    line.add("-np", str(plan.n_parallel), "its slots")
    if plan.n_parallel > 1:
        line.add("-kvu", None, "slots that share one context")
    else:
        line.add_if_known("-kvu")
    line.add("-b", str(plan.batch_size), "its batch size")
    line.add("-ub", str(plan.ubatch_size), "its batch size")
    line.add("-ctk", plan.cache_type_k, "its KV cache")
    line.add("-ctv", plan.cache_type_v, "its KV cache")
    line.add("-fa", plan.flash_attn, "flash attention")
    line.add_if_known("-cram", str(plan.cache_ram_bytes // MIB))  # an engine without it keeps no such cache
    line.add_if_known("-ctxcp", str(plan.ctx_checkpoints))


def _add_placement(line: _Line, plan: Plan) -> None:
    placement = plan.placement
    line.add("-dev", ",".join(placement.devices) or "none", "its devices")
    line.add("-ngl", str(placement.n_gpu_layers), "its devices")
    if len(placement.devices) > 1:
        line.add("-sm", "layer", "several devices")
        line.add("-ts", ",".join(str(count) for count in placement.tensor_split), "several devices")
    overrides = placement_overrides(placement)
    if overrides:
        line.add("-ot", ",".join(map(format_override, overrides)), "single tensors' places")


def _add_load_mode(line: _Line, plan: Plan) -> None:
    """`--load-mode` replaced `--no-mmap` and `--mlock` (common/arg.cpp); an engine has one or the other."""
    if line.knows("-lm", "--load-mode") is not None:
        line.add("-lm", plan.load_mode, "its load mode")
    elif plan.load_mode is LoadMode.NONE:
        line.add("--no-mmap", None, "load mode none")
    elif plan.load_mode is LoadMode.MLOCK:
        line.add("--mlock", None, "load mode mlock")


def _check_profile_flags(flags: Sequence[str], capabilities: KnownFlags | None) -> None:
    for _, words in split_flags(flags):
        if capabilities is not None and not capabilities.has(words[0]):
            raise UsageError(
                f"this llama-server has no {words[0]}, and the model's profile sets it",
                hint="launcher engine build, or --engine with a newer llama-server",
            )


def check_flags(
    flags: Sequence[str], has: Callable[[str], bool] | None, planned: Collection[str] = ()
) -> None:
    """Raises UsageError for user flags that go with no plan, but for those that are `planned`; `has` says which flags
    llama-server has, None where that is not known."""
    for name, words in split_flags(flags):
        flag, value = words[0], " ".join(words[1:])
        if not is_flag(flag):
            what = "a URL" if "://" in flag else repr(flag)  # it may have a password in it
            raise UsageError(f"{what} after -- is not a flag", hint="flags after -- begin with a dash")
        if has is not None and not has(flag):
            raise UsageError(f"this llama-server has no flag {flag}", hint="launcher engine info")
        if name in _OWNED:
            raise UsageError(f"{flag} after -- is launcher's to set", hint=_OWNED[name])
        if flag in _FATAL:
            raise UsageError(f"{flag} after -- cannot be: {_FATAL[flag]}", hint=f"leave {flag} out")
        if flag in _MOVES and flag not in planned:
            raise UsageError(
                f"{flag} after -- would move memory that the plan has placed", hint=f"leave {flag} out"
            )
        if name == "-sm" and value in _SPLITS_TENSORS:
            raise UsageError(
                f"{flag} {value} after -- divides tensors, and a plan places whole layers",
                hint=f"launcher check REF -- {flag} {value} says whether that fits",
            )


def _check_user_flags(line: _Line, flags: Sequence[str]) -> tuple[str, ...]:
    """The user's flags, those left out that say what the plan says. Raises UsageError for a contradiction."""
    planned: Mapping[str, str | None] = {"-sm": "layer", **{name: value for name, _, value in line.parts}}
    check_flags(flags, line.flags.has if line.flags else None, planned)
    kept: list[str] = []
    for name, words in split_flags(flags):
        flag, value = words[0], " ".join(words[1:])
        if name in WORKLOAD_FLAGS | _PLACES and planned.get(name, "") != (value or None):
            raise UsageError(
                f"{' '.join(words)} after -- contradicts the plan, which has {_planned(flag, planned.get(name))}",
                hint=f"give {' '.join(words)} before --" if name in WORKLOAD_FLAGS else f"leave {flag} out",
            )
        kept += words
    return tuple(kept)


def _planned(flag: str, value: str | None) -> str:
    return flag if value is None else f"{flag} {value}"
