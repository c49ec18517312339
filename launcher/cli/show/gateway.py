"""Show what a gateway says of itself: memory, models, requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launcher.units import format_bytes, one_line

_BAR = 40
_MOST_REQUESTS = 10
_HOLDING = {"loading": "▒", "ready": "█", "stopping": "░", "leaving": "░"}


def render_gateway(status: Mapping[str, Any], url: str) -> RenderableType:
    """Return the gateway's status as the page shows it, for a terminal."""
    try:
        return _rendered(status, url)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        # another program listens there, or a gateway of another version
        return Text(f"what answers at {url} is no gateway of this version", style="bold")


def _rendered(status: Mapping[str, Any], url: str) -> RenderableType:
    shown: list[RenderableType] = [
        Text(f"gateway {url}: {status['waiting']:d} waiting, {status['loads']:d} loads", style="bold")
    ]
    shown.extend(_memory(place, status["models"], key) for key, place in status["memory"].items())
    shown.append(_models(status["models"]))
    if status["requests"] or status["answered"]:
        shown.append(_requests(status))
    return Group(*shown)


def _memory(place: Mapping[str, Any], models: list[Mapping[str, Any]], key: str) -> Text:
    capacity = max(1, place["capacity_bytes"])
    bar = ""
    for model in models:
        n_bytes = model["needs_bytes"].get(key, 0)
        if model["state"] in _HOLDING and n_bytes:
            bar += _HOLDING[model["state"]] * min(_BAR, max(1, round(n_bytes / capacity * _BAR)))
    held = format_bytes(place["held_bytes"])
    return Text(f"{one_line(place['name'], 24):24} {bar[:_BAR]:·<{_BAR}} {held} of {format_bytes(capacity)}")


def _models(models: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("MODEL", "STATE", "HOLDS", "BUSY", "IDLE", ""):
        table.add_column(column)
    order = {"ready": 0, "loading": 1, "planning": 1}
    for model in sorted(models, key=lambda each: (order.get(each["state"], 2), each["model"])):
        holds = sum(model["needs_bytes"].values()) if model["state"] in _HOLDING else 0
        words = model["problem"]["sentence"] if model["problem"] else _where_and_why(model)
        state = f"{model['state']} {model['progress']}".strip()
        busy = f"{model['active']}/{model['slots']}" if model["state"] == "ready" else ""
        idle = "" if model["idle_s"] is None else f"{model['idle_s']:.0f} s"
        name = Text(one_line(model["model"], 60))
        table.add_row(
            name,
            Text(one_line(state, 60)),
            format_bytes(holds) if holds else "",
            busy,
            idle,
            Text(one_line(words, 200)),
        )
    return table


def _where_and_why(model: Mapping[str, Any]) -> str:
    said = (
        "pinned" if model["pinned"] else "",
        f"on {model['node']}" if model["node"] else "",
        f"replica of {model['replica_of']}" if model["replica_of"] else "",
        "takes no new requests" if model["draining"] else "",
    )
    return ", ".join(filter(None, said))


def _requests(status: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("REQUEST", "STATE", "TOKENS/S", "FIRST", "TOTAL"):
        table.add_column(column, justify="left" if column in {"REQUEST", "STATE"} else "right")
    for each in [*status["requests"], *status["answered"]][:_MOST_REQUESTS]:
        state = each.get("state") or ("client left" if each["status"] is None else str(each["status"]))
        speed, first = each["tokens_per_s"], each["first_byte_s"]
        table.add_row(
            Text(one_line(f"{each['model'] or '-'} {each['path']}", 60)),
            Text(one_line(state, 60)),
            "" if speed is None else f"{speed:.1f}",
            "" if first is None else f"{first:.1f} s",
            f"{each['seconds']:.1f} s",
        )
    return table
