"""Turn llama.cpp's accounts into the rows of an answer: one per buffer type that holds anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from launcher.plan.amounts import HOST
from launcher.plan.modes import LoadMode
from launcher.plan.oracle import BufferRow, Question
from launcher.simulate.abi.binding import BreakdownEntry
from launcher.simulate.log import LoadLog
from launcher.units import MIB

_LOG_ROUNDING = MIB // 100  # the log states sizes in hundredths of a MiB
_MAPPED = "CPU_Mapped"


def assemble_rows(
    question: Question, breakdown: Mapping[str, BreakdownEntry], compute: Mapping[str, int], log: LoadLog
) -> tuple[BufferRow, ...]:
    """Return rows in the order of the question's devices, the host's last."""
    owners = {device.buffer_name: device.id for device in question.devices}
    others = sorted((set(breakdown) | set(compute) | set(log.output_bytes)) - set(owners))
    rows = []
    for name in (*owners, *others):
        context = breakdown[name].context if name in breakdown else 0
        recurrent = _recurrent(context, log.recurrent_bytes.get(name, 0))
        rows.append(
            BufferRow(
                where=owners.get(name, HOST),
                buffer_type=name,
                weights_bytes=breakdown[name].model if name in breakdown else 0,
                kv_bytes=context - recurrent,
                recurrent_bytes=recurrent,
                compute_bytes=compute.get(name, 0),
                output_bytes=log.output_bytes.get(name, 0),
            )
        )
    if question.load_mode is LoadMode.MMAP:
        rows = _mapped(rows)
    return tuple(row for row in rows if row.where != HOST or _total(row))


def _recurrent(context: int, logged: int) -> int:
    # if the log's rounded figure is the whole context, the exact one is llama.cpp's own; it is never more
    return context if abs(context - logged) <= _LOG_ROUNDING else min(context, logged)


def _mapped(rows: list[BufferRow]) -> list[BufferRow]:
    """Move plain host weights to a row of their own, because under mmap they are pages of the file."""
    # never pinned: llama_model_loader::create_tensor, "avoid using a host buffer when using mmap"
    plain = [
        row
        for row in rows
        if row.where == HOST and (row.buffer_type == "CPU" or row.buffer_type.endswith("_Host"))
    ]
    rest = [row if row not in plain else replace(row, weights_bytes=0) for row in rows]
    weights = sum(row.weights_bytes for row in plain)
    return [*rest, _weights_row(_MAPPED, weights)] if weights else rest


def _weights_row(name: str, weights: int) -> BufferRow:
    return BufferRow(
        where=HOST,
        buffer_type=name,
        weights_bytes=weights,
        kv_bytes=0,
        recurrent_bytes=0,
        compute_bytes=0,
        output_bytes=0,
    )


def _total(row: BufferRow) -> int:
    return row.weights_bytes + row.kv_bytes + row.recurrent_bytes + row.compute_bytes + row.output_bytes
