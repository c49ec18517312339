"""Values as tables and bars, readable at 80 columns, without colour, and in a pipe."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Literal

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from launcher.commands.engine import EngineDescription
from launcher.engine.find import Engine
from launcher.machine.machine import Device, Filesystem, Machine
from launcher.models.kept.stored_model import StoredModel
from launcher.models.profiles.profile import ApiEquivalent, ModelProfile, ProfileQuant, SizeBasis
from launcher.units import format_bytes

BAR_WIDTH = 14


def facts(rows: Iterable[tuple[str, str | None]]) -> Table:
    """Two columns, name and value; a row without a value is left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value is not None:
            table.add_row(name, Text(value))
    return table


def grid(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: frozenset[str] = frozenset(),
    whole: frozenset[str] = frozenset(),
) -> Table:
    """A plain table; columns named in `right` are numbers, those in `whole` are never folded."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        justify: Literal["left", "right"] = "right" if header in right else "left"
        table.add_column(header, justify=justify, overflow="fold", no_wrap=header in whole)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def bar(used: int, budget: int, width: int = BAR_WIDTH) -> str:
    """`[########......]`; what does not fit runs over with `!`."""
    if budget <= 0:
        return "!" * width
    filled = round(width * min(used, budget) / budget)
    return "#" * filled + ("!" if used > budget else "." * (width - filled))


def reasons(sentences: Iterable[str]) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for sentence in sentences:
        table.add_row("-", Text(sentence))
    return Padding(table, (1, 0, 0, 0), expand=False)


def machine(value: Machine) -> RenderableType:
    """The machine as the planner sees it."""
    cpu = value.cpu
    cores = f"{cpu.physical_cores or '?'} cores ({cpu.performance_cores or '?'} fast), {cpu.logical_cores} threads"
    quota = f"; limited to {cpu.quota:g} by cgroup" if cpu.quota is not None else ""
    limit = (
        f", cgroup limit {format_bytes(value.ram_limit_bytes)}" if value.ram_limit_bytes is not None else ""
    )
    parts: list[RenderableType] = [
        facts(
            [
                ("system", f"{value.os} {value.arch}"),
                ("cpu", f"{cpu.name or 'unknown'}: {cores}, {cpu.affinity} usable{quota}"),
                ("isa", " ".join(cpu.isa) or None),
                (
                    "ram",
                    f"{format_bytes(value.ram_available_bytes)} available of {format_bytes(value.ram_total_bytes)}{limit}",
                ),
                ("numa", _numa(value)),
                ("store", _store(value.store)),
            ]
        )
    ]
    if value.devices:
        headers = ("device", "name", "total", "free", "link", "driver")
        parts.append(
            grid(headers, [_device(device) for device in value.devices], right=frozenset({"total", "free"}))
        )
    else:
        parts.append(Text("no GPU: models run on the CPU"))
    parts += [Text(f"note: {note}") for note in value.notes]
    return Group(*parts)


def _store(store: Filesystem | None) -> str | None:
    if store is None:
        return None
    room = f"{format_bytes(store.free_bytes)} free of {format_bytes(store.total_bytes)}"
    return f"{store.path} ({store.type or '?'}): {room}"


def _numa(value: Machine) -> str | None:
    if len(value.nodes) < 2:
        return None
    return ", ".join(
        f"node {node.node}: {format_bytes(node.free_bytes)} free of {format_bytes(node.total_bytes)}"
        for node in value.nodes
    )


def _device(device: Device) -> tuple[str, ...]:
    link = device.link
    pcie = f"PCIe {link.pcie_generation or '?'} x{link.pcie_width or '?'}" if link else "?"
    shared = " (shared)" if device.shares_host_memory else ""
    return (
        device.id,
        device.name + shared,
        format_bytes(device.total_bytes),
        format_bytes(device.free_bytes),
        pcie,
        device.driver or "?",
    )


def kept(found: Iterable[StoredModel], *, now: float) -> RenderableType:
    """One line per model that is here."""
    rows = [
        (
            one.name,
            format_bytes(one.here_bytes if one.is_whole else one.size_bytes),
            "whole" if one.is_whole else _partial(one),
            _ago(None if one.used_at is None else now - one.used_at),
            one.store,
        )
        for one in found
    ]
    if not rows:
        return Text("no model is here: launcher pull MODEL")
    return grid(("model", "size", "state", "used", "store"), rows, right=frozenset({"size"}))


def _partial(one: StoredModel) -> str:
    if not one.size_bytes:
        return "partial"
    return f"{min(99, one.here_bytes * 100 // one.size_bytes)} %"


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "now"


def profiles(found: Iterable[ModelProfile]) -> RenderableType:
    """One line per profile."""
    rows = [
        (
            one.name,
            one.title,
            ", ".join(quant.name for quant in one.quants),
            str(one.context.max),
            one.license,
        )
        for one in found
    ]
    return grid(
        ("profile", "model", "quants, best first", "context", "license"), rows, right=frozenset({"context"})
    )


def profile(value: ModelProfile) -> RenderableType:
    """One profile whole."""
    rows = [
        (
            quant.name,
            f"{quant.repo}:{quant.label}",
            _profile_size(quant),
            str(quant.n_shards or "?"),
            quant.quality,
        )
        for quant in value.quants
    ]
    head = facts(
        [
            ("profile", f"{value.name}: {value.title}"),
            ("about", value.description),
            ("license", value.license),
            ("home", value.homepage),
            ("context", f"{value.context.default} planned, {value.context.max} at most"),
            ("modes", ", ".join(mode.name for mode in value.modes)),
            ("flags", shlex.join(value.flags) or None),
            ("as API", None if value.api is None else _price(value.api)),
        ]
    )
    return Group(
        head, grid(("quant", "where", "size", "files", "quality"), rows, right=frozenset({"size", "files"}))
    )


def _price(api: ApiEquivalent) -> str:
    price = f"${api.input_usd_per_mtok:g} in, ${api.output_usd_per_mtok:g} out per million tokens"
    return f"{api.provider} {api.model_id}: {price} ({api.as_of})"


def _profile_size(quant: ProfileQuant) -> str:
    about = "" if quant.size_basis is SizeBasis.EXACT or quant.size_bytes is None else "~"
    return about + format_bytes(quant.size_bytes)


def engines(found: Iterable[Engine]) -> RenderableType:
    """The engines built here, each with its path whole, to be copied."""
    built = [(one.path, one.build) for one in found if one.build is not None]
    if not built:
        return Text("no engine was built here: launcher engine build")
    return Group(
        *(
            facts(
                [
                    ("engine", str(path)),
                    (
                        "is",
                        f"{build.backend}, llama.cpp {build.commit}, llama-cpp-python {build.version}, {build.compiler}",
                    ),
                ]
            )
            for path, build in built
        )
    )


def engine_document(value: EngineDescription) -> dict[str, object]:
    """The engine for programs, every flag with its spellings and values."""
    return {
        "path": value.engine.path,
        "source": value.engine.source,
        "version": value.capabilities.version,
        "sha256": value.capabilities.sha256,
        "backends": value.backends,
        "devices": value.devices,
        "build": value.engine.build,
        "flags": value.capabilities.options,
    }


def engine(value: EngineDescription) -> RenderableType:
    """The engine in use."""
    version = value.capabilities.version
    head = facts(
        [
            ("engine", f"{value.engine.path} ({value.engine.source})"),
            ("version", f"{version.text}, commit {version.commit or '?'}"),
            ("compiler", version.compiler),
            ("backends", ", ".join(value.backends) or None),
            ("devices", ", ".join(f"{one.id} {one.name}" for one in value.devices) or "none but the CPU"),
            ("sha256", value.capabilities.sha256),
            ("flags", f"{len(value.capabilities.options)}: launcher engine info --json lists them"),
        ]
    )
    spellings = " ".join(option.spellings[-1] for option in value.capabilities.options)
    return Group(head, Padding(Text(spellings), (1, 0, 0, 0), expand=False))
