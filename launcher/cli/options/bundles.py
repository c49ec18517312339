"""Bundles: options that several commands share, as dataclasses that a command takes whole.

llama.cpp's own short flags work (`-c`, `-ctk`, `-np`), because that is what its users type.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.options.complete import complete_machine
from launcher.cli.options.single import NoVision, Offline
from launcher.cli.show.progress import ProgressStyle
from launcher.machine.cpus import MAX_SOCKETS
from launcher.plan.modes import CacheType, NumaMode
from launcher.plan.workload import Prefer
from launcher.units import parse_bandwidth, parse_context, parse_size


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """Options of every command that plans: what decides a plan beside model and machine."""

    # None: not asked for; the planner chooses, or sets no limit
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
    from_disk: Annotated[
        bool,
        typer.Option(
            "--from-disk",
            help="Read experts that RAM has no room for from the disk, as they are used: slow.",
            show_default=False,
        ),
    ] = False
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
            "--gpus",
            metavar="LIST",
            help="Only these GPUs (CUDA0,CUDA2 or 0,2), or none.",
            show_default=False,
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

    no_vision: NoVision = False
    untuned: Annotated[
        bool, typer.Option("--untuned", help="Leave out the settings that launcher tune found.")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOnlyOptions:
    """Options of `plan` alone."""

    explain: Annotated[
        bool, typer.Option("--explain", help="Show every number, choice and flag, each with its reason.")
    ] = False
    buy: Annotated[
        bool, typer.Option("--buy", help="If nothing fits: the smallest changes that would do.")
    ] = False
    svg: Annotated[
        Path | None,
        typer.Option(
            "--svg",
            metavar="FILE",
            help="Draw the plan, or --compare, into this file, too.",
            show_default=False,
        ),
    ] = None
    lock: Annotated[
        Path | None,
        typer.Option("--lock", metavar="FILE", help="Write the plan for up --locked.", show_default=False),
    ] = None
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            metavar="MACHINE",
            help="Put machines side by side (names, files, here); repeat it.",
            show_default=False,
        ),
    ] = None
    machines: Annotated[
        Path | None,
        typer.Option(
            "--machines",
            metavar="FILE",
            help="Plan for a cluster: [[machine]] tables; or repeat --machine.",
            show_default=False,
        ),
    ] = None
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Plan over the machines of launcher cluster, as they are now.")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOptions:
    """A machine to plan for that is not this one."""

    machine: Annotated[
        list[str] | None,
        typer.Option(
            "--machine",
            help="Plan for this machine: a name or a file.",
            show_default=False,
            autocompletion=complete_machine,
        ),
    ] = None
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            "--gpu",
            metavar="NAME|SIZE[:COUNT]",
            help="Plan for these GPUs (3090:2, 24G); may be repeated.",
            show_default=False,
        ),
    ] = None
    ram: Annotated[
        int | None,
        typer.Option(
            "--ram", parser=parse_size, metavar="SIZE", help="… and this much RAM.", show_default=False
        ),
    ] = None
    cpu: Annotated[
        str | None,
        typer.Option("--cpu", metavar="NAME", help="… and this CPU (EPYC 9355).", show_default=False),
    ] = None
    sockets: Annotated[
        int | None,
        typer.Option("--sockets", min=1, max=MAX_SOCKETS, help="… and so many of it.", show_default=False),
    ] = None
    ram_bandwidth: Annotated[
        int | None,
        typer.Option(
            "--ram-bandwidth",
            parser=parse_bandwidth,
            metavar="RATE",
            help="… and RAM this fast, of all sockets (460G).",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """The engine to use."""

    engine: Annotated[
        Path | None,
        typer.Option(
            "--engine",
            help="Use this llama-server, by path or by its name in engine list; or vllm.",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesOptions:
    """Where the files of a pull go, and how they are fetched."""

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
class OutputOptions:
    """Options of every command; it gets an `Output` made from them."""

    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False
    progress: Annotated[
        ProgressStyle, typer.Option(help="Progress on stderr: auto, jsonl or none.", show_default=False)
    ] = ProgressStyle.AUTO
