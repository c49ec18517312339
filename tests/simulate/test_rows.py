"""llama.cpp's accounts as rows of an answer."""

from __future__ import annotations

from launcher.machine.machine import Backend, Device
from launcher.plan.amounts import HOST
from launcher.plan.modes import LoadMode
from launcher.plan.oracle import BufferRow, Question
from launcher.simulate.abi.binding import BreakdownEntry
from launcher.simulate.log import LoadLog
from launcher.simulate.rows import assemble_rows
from launcher.units import GIB, MIB

CARD = Device(id="CUDA0", backend=Backend.CUDA, name="A100", total_bytes=80 * GIB, free_bytes=None)


def rows(
    log: LoadLog | None = None, load_mode: LoadMode = LoadMode.NONE, **entries: BreakdownEntry
) -> tuple[BufferRow, ...]:
    question = Question(model="m.gguf", devices=(CARD,), ctx_size=4096, load_mode=load_mode)
    return assemble_rows(question, entries, {}, log or LoadLog())


def entry(model: int = 0, context: int = 0) -> BreakdownEntry:
    return BreakdownEntry(model=model, context=context, compute=0)


def test_devices_come_first_and_empty_host_rows_are_left_out() -> None:
    answered = rows(CPU=entry(model=1), CPU_REPACK=entry(), CUDA0=entry())

    assert [(row.where, row.buffer_type) for row in answered] == [("CUDA0", "CUDA0"), (HOST, "CPU")]


def test_a_context_that_is_recurrent_state_but_for_the_logs_rounding_has_no_cache() -> None:
    log = LoadLog()
    log.recurrent_bytes["CUDA0"] = 2 * MIB

    (row,) = rows(log, CUDA0=entry(context=2 * MIB + 1000))
    (both,) = rows(log, CUDA0=entry(context=5 * MIB))

    assert (row.kv_bytes, row.recurrent_bytes) == (0, 2 * MIB + 1000)
    assert (both.kv_bytes, both.recurrent_bytes) == (3 * MIB, 2 * MIB)


def test_plain_host_weights_are_one_mapped_row_under_mmap() -> None:
    entries = {
        "CPU": entry(model=1),
        "CUDA_Host": entry(model=2, context=7 * MIB),
        "CPU_REPACK": entry(model=4),
    }

    answered = rows(load_mode=LoadMode.MMAP, **entries)

    host = {row.buffer_type: (row.weights_bytes, row.kv_bytes) for row in answered if row.where == HOST}
    assert host == {"CPU_REPACK": (4, 0), "CUDA_Host": (0, 7 * MIB), "CPU_Mapped": (3, 0)}
