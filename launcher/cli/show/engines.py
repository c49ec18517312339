"""Engines as cards and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from launcher.cli.show.tables import facts
from launcher.commands.bench.compare import Compared
from launcher.commands.engine import EngineDescription
from launcher.commands.engine_choice import Listed
from launcher.commands.engine_compare import Comparison
from launcher.engine.find import BuildRecord, Engine
from launcher.units import format_bytes


def render_built_engines(engines: Iterable[Engine]) -> RenderableType:
    """Lay out the engines built here, each with its whole path, ready to copy."""
    cards = [_build_card(engine.path, engine.build) for engine in engines if engine.build is not None]
    if not cards:
        return Text("no engine is here: launcher engine install")
    return Group(*cards)


def _build_card(path: Path, build: BuildRecord) -> RenderableType:
    origin = build.origin
    about = (
        f"{build.backend}",
        f"{build.dialect} {build.commit}",
        f"llama-cpp-python {build.version}" if origin is None else build.version,
        f"{build.compiler}",
    )
    made_by = None if origin is None else f"{origin.made_by}: {origin.file}"
    return facts([("engine", str(path)), ("is", ", ".join(about)), ("built by", made_by)])


def render_comparison(comparison: Comparison) -> RenderableType:
    """Lay out two engines side by side: names, flags, and each place's memory."""
    before, after = comparison.before, comparison.after
    rows: list[tuple[str, str | None]] = [
        (place, _side_by_side(before.bytes_by_place.get(place, 0), after.bytes_by_place.get(place, 0)))
        for place in dict.fromkeys((*before.bytes_by_place, *after.bytes_by_place))
    ]
    return facts(
        [
            ("engines", f"{before.engine.folder.name} → {after.engine.folder.name}"),
            ("simulated by", f"{before.plan.simulated_by or '-'} → {after.plan.simulated_by or '-'}"),
            ("flags gained", " ".join(comparison.gained) or "none"),
            ("flags lost", " ".join(comparison.lost) or "none"),
            *rows,
            *((row.what, _rates(row)) for row in comparison.speed),
        ]
    )


def _rates(row: Compared) -> str:
    before, after = row.before.median, row.now.median
    return f"{before:.1f} → {after:.1f} tokens/s ({row.ratio:.2f}x, {row.difference})"


def _side_by_side(before: int, after: int) -> str:
    if before == after:
        return f"{format_bytes(before)}, the same"
    sign = "+" if after > before else "-"
    return f"{format_bytes(before)} → {format_bytes(after)} ({sign}{format_bytes(abs(after - before))})"


def comparison_json(comparison: Comparison) -> dict[str, object]:
    """Return the comparison for programs."""
    sides = (comparison.before, comparison.after)
    return {
        "engines": [side.engine.folder.name for side in sides],
        "simulated_by": [side.plan.simulated_by for side in sides],
        "flags_gained": comparison.gained,
        "flags_lost": comparison.lost,
        "bytes": [side.bytes_by_place for side in sides],
        "speed": [
            {"what": row.what, "tokens_per_s": [row.before.median, row.now.median], "ratio": row.ratio}
            for row in comparison.speed
        ],
    }


def used_line(listed: Listed) -> RenderableType:
    """Say which engine `up` takes, and why."""
    if listed.used is None:
        return Text("used: none of them runs here")
    why = "chosen" if listed.is_chosen else str(listed.used.source)
    return Text(f"used: {listed.used.path} ({why})")


def render_engine(description: EngineDescription) -> RenderableType:
    """Lay out the engine in use."""
    engine, capabilities = description.engine, description.capabilities
    version = capabilities.version
    devices: str | None = None
    if description.devices is not None:
        listed = ", ".join(f"{device.id} {device.name}" for device in description.devices)
        devices = listed or "none but the CPU"
    return facts(
        [
            ("engine", f"{engine.path} ({engine.source})"),
            ("dialect", capabilities.dialect),
            ("version", f"{version.text}, commit {version.commit or '?'}"),
            ("compiler", version.compiler),
            ("backends", ", ".join(description.backends) or None),
            ("devices", devices),
            ("sha256", capabilities.sha256),
            ("flags", f"{len(capabilities.options)}: launcher engine info --json lists them"),
        ]
    )


def engine_json(description: EngineDescription) -> dict[str, object]:
    """Return the engine for programs, with the spellings and values of every flag."""
    engine, capabilities = description.engine, description.capabilities
    return {
        "path": engine.path,
        "source": engine.source,
        "dialect": capabilities.dialect,
        "version": capabilities.version,
        "sha256": capabilities.sha256,
        "backends": description.backends,
        "devices": description.devices,
        "build": engine.build,
        "flags": capabilities.options,
    }
