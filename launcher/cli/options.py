"""The options, each spelled once: bundles that commands take whole, and the decorator that unfolds them.

llama.cpp's own short flags work (`-c`, `-ctk`, `-np`), because that is what its users type.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from launcher.cli.show.output import Output, ProgressStyle
from launcher.plan.modes import CacheType, NumaMode
from launcher.plan.workload import Prefer
from launcher.units import parse_context, parse_size

Offline = Annotated[bool, typer.Option("--offline", help="Use what is here; ask no server (HF_HUB_OFFLINE).")]
FLAGS = "What follows -- goes to llama-server: -- -ub 1024 --lora FILE"
"""Of the help of commands that take such flags; a usage line has no place for them."""

FILES = "Of llama-server's flags after -- the files are pulled too: -- -hfd user/repo --mmproj-url URL"
"""Of the help of `pull`, as above."""

Ref = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="Profile, user/repo:QUANT, model-page URL, .gguf URL, or path.",
        show_default=False,
    ),
]
OptionalRef = Annotated[
    str | None,
    typer.Argument(
        metavar="[REF]",
        help="Profile, user/repo:QUANT, model-page URL, .gguf URL, or path.",
        show_default=False,
    ),
]
Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]", help="The deployment; not needed when there is one.", show_default=False
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False
    progress: Annotated[
        ProgressStyle, typer.Option(help="Progress on stderr: auto, jsonl or none.", show_default=False)
    ] = ProgressStyle.AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesOptions:
    """Where the files of a pull go, and how they come there."""

    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="Into this folder instead of the Hub's cache.", show_default=False),
    ] = None
    look_in: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            help="Use files of this folder where they are the same; may be repeated.",
            show_default=False,
        ),
    ] = None
    verify: Annotated[bool, typer.Option("--verify", help="Read and hash again what is here.")] = False
    connections: Annotated[
        int | None,
        typer.Option(
            "--connections", min=1, max=64, help="Connections at once (default: two a core, 4 to 16)."
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOnlyOptions:
    """What can be done with a plan, or without one."""

    buy: Annotated[
        bool, typer.Option("--buy", help="If nothing fits: the smallest changes that would do.")
    ] = False
    lock: Annotated[
        Path | None,
        typer.Option("--lock", metavar="FILE", help="Write the plan for up --locked.", show_default=False),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    engine: Annotated[
        Path | None, typer.Option("--engine", help="Use this llama-server.", show_default=False)
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What decides a plan beside the model."""

    offline: Offline = False
    quant: Annotated[
        str | None, typer.Option("--quant", help="This quant, as in REF:QUANT.", show_default=False)
    ] = None
    ctx_size: Annotated[
        int | None,
        typer.Option(
            "-c",
            "--ctx-size",
            "--ctx",
            parser=parse_context,
            metavar="TOKENS",
            help="Context one request can use (32k).",
            show_default=False,
        ),
    ] = None
    n_parallel: Annotated[
        int, typer.Option("-np", "--parallel", "--slots", min=1, max=256, help="Requests at once.")
    ] = 1
    cache_type_k: Annotated[
        CacheType | None,
        typer.Option("-ctk", "--cache-type-k", help="KV cache type of K.", show_default=False),
    ] = None
    cache_type_v: Annotated[
        CacheType | None,
        typer.Option("-ctv", "--cache-type-v", help="KV cache type of V.", show_default=False),
    ] = None
    kv: Annotated[
        CacheType | None,
        typer.Option("--kv", help="KV cache type of K and V [default: f16 or q8_0].", show_default=False),
    ] = None
    batch_size: Annotated[
        int | None, typer.Option("-b", "--batch-size", min=1, help="Logical batch.", show_default=False)
    ] = None
    ubatch_size: Annotated[
        int | None,
        typer.Option(
            "-ub", "--ubatch-size", min=1, help="Physical batch [default: the fastest].", show_default=False
        ),
    ] = None
    prefer: Annotated[Prefer, typer.Option("--prefer", help="What to choose by, among plans that fit.")] = (
        Prefer.BALANCED
    )
    min_tps: Annotated[
        float | None,
        typer.Option(
            "--min-tps", min=0, metavar="N", help="At least N predicted tokens/s.", show_default=False
        ),
    ] = None
    reserve: Annotated[
        list[str] | None,
        typer.Option(
            "--reserve",
            metavar="[DEVICE=]SIZE",
            help="Leave this free on every GPU, on one, or in ram=; may be repeated.",
            show_default=False,
        ),
    ] = None
    gpus: Annotated[
        str | None,
        typer.Option(
            "--gpus", metavar="LIST", help="Use only these GPUs (CUDA0,CUDA2 or 0,2).", show_default=False
        ),
    ] = None
    max_ram: Annotated[
        int | None,
        typer.Option(
            "--max-ram", parser=parse_size, metavar="SIZE", help="Use no more RAM.", show_default=False
        ),
    ] = None
    numa: Annotated[
        NumaMode | None,
        typer.Option("--numa", help="NUMA mode of llama-server [default: by nodes].", show_default=False),
    ] = None
    cache_ram: Annotated[
        int | None,
        typer.Option(
            "-cram",
            "--cache-ram",
            parser=parse_size,
            metavar="SIZE",
            help="RAM for llama-server's prompt cache.",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOptions:
    """A machine you do not have."""

    machine: Annotated[
        str | None,
        typer.Option("--machine", help="Plan for this machine: a name or a file.", show_default=False),
    ] = None
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            "--gpu", metavar="NAME[:COUNT]", help="Plan for these GPUs; may be repeated.", show_default=False
        ),
    ] = None
    ram: Annotated[
        int | None,
        typer.Option(
            "--ram", parser=parse_size, metavar="SIZE", help="… and this much RAM.", show_default=False
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How and where a server runs."""

    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the deployment [default: the model's].", show_default=False),
    ] = None
    host: Annotated[
        str, typer.Option("--host", help="Address to bind; not loopback needs --api-key-file.")
    ] = "127.0.0.1"
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Port [default: a free one].", show_default=False),
    ] = None
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", help="File with API keys, one a line.", show_default=False),
    ] = None
    mode: Annotated[
        str | None,
        typer.Option("--mode", help="Sampling mode of the profile (thinking, instant).", show_default=False),
    ] = None
    env: Annotated[
        list[str] | None,
        typer.Option(
            "-e",
            "--env",
            metavar="K=V",
            help="Variable for llama-server; may be repeated.",
            show_default=False,
        ),
    ] = None
    no_retry: Annotated[
        bool,
        typer.Option("--no-retry", help="Try nothing twice: not with less memory, not after a crash."),
    ] = False
    canary: Annotated[
        bool,
        typer.Option("--canary", help="Ready only after a prompt as long as the context."),
    ] = False
    yes: Annotated[
        bool,
        typer.Option(
            "-y",
            "--yes",
            help="Do not ask before a large download or a build (without a terminal: only said).",
        ),
    ] = False


BUNDLES = (
    FilesOptions,
    PlanOnlyOptions,
    OutputOptions,
    EngineOptions,
    PlanOptions,
    MachineOptions,
    ServeOptions,
)


def unfolded(function: Callable[..., None]) -> Callable[..., None]:
    """`function` with every bundle parameter replaced by the bundle's fields, for typer to read.

    A parameter annotated `Output` stands for OutputOptions and is made from it.
    """
    hints = get_type_hints(function, include_extras=True)
    folded: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        annotation = hints[parameter.name]
        bundle = OutputOptions if annotation is Output else annotation
        if bundle in BUNDLES:
            folded[parameter.name] = annotation
            parameters += _parameters_of(bundle)
        else:
            parameters.append(parameter.replace(annotation=annotation, kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(function)
    def command(**given: Any) -> None:
        whole: dict[str, Any] = {name: _fold(annotation, given) for name, annotation in folded.items()}
        function(**given, **whole)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameters_of(bundle: type) -> list[inspect.Parameter]:
    hints = get_type_hints(bundle, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(bundle)
    ]


def _fold(annotation: type, given: dict[str, Any]) -> object:
    bundle = OutputOptions if annotation is Output else annotation
    values = {field.name: given.pop(field.name) for field in dataclasses.fields(bundle)}
    return (
        Output(as_json=values["json"], progress=values["progress"])
        if annotation is Output
        else bundle(**values)
    )
