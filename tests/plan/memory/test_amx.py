"""The layouts of AMX: what they take beyond the file, and where they are used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import TensorInfo
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, Basis, LedgerRow
from launcher.plan.memory.amx import more_bytes
from launcher.plan.placement.arrange import arrange, read_case
from launcher.plan.placement.settle import settle
from launcher.plan.workload import Limits, Workload
from launcher.units import MIB
from tests.plan.shapes import cards, eight_cores, machine, model

AMX = replace(eight_cores(), isa=("AVX2", "AVX512_VNNI", "AMX_INT8"))
ASKED = Workload(ctx_size=4096, ubatch_size=512)


def matrix(kind: str, *shape: int) -> TensorInfo:
    return TensorInfo(name="blk.0.attn_q.weight", shape=shape, type=GgmlType[kind], offset=0, size_bytes=1)


def host_row(box: Machine, name: str = "llama") -> LedgerRow:
    case = read_case(model(name), "Q4_0", box, ASKED, Limits())
    return arrange(case, settle(case.architecture, ASKED, 4096), ASKED).ledger[-1]


@pytest.mark.parametrize(
    ("kind", "more"),
    [("Q8_0", 16 * 4), ("Q4_K", 2 * 4), ("Q5_K", 2 * 4), ("IQ4_XS", 2 * 2), ("Q4_0", 0), ("F16", 0)],
)
def test_each_row_has_its_scales_unpacked(kind: str, more: int) -> None:
    """mmq.cpp, get_row_size: 512 values are 16 blocks of 32 or 2 of 256."""
    assert more_bytes([matrix(kind, 512, 64)]) == 64 * more


def test_vectors_experts_and_odd_outputs_keep_the_file_s_layout() -> None:
    assert more_bytes([matrix("Q8_0", 512), matrix("Q8_0", 512, 64, 8), matrix("Q8_0", 512, 40)]) == 0


def test_only_a_host_that_computes_alone_uses_them() -> None:
    plain, laid_out = host_row(machine()), host_row(machine(cpu=AMX))
    assert plain.where == laid_out.where == HOST
    assert laid_out.weights.n_bytes > plain.weights.n_bytes
    assert (plain.weights.basis, laid_out.weights.basis) == (Basis.EXACT, Basis.ESTIMATED)
    card = cards(2000)
    assert host_row(machine(*card, cpu=AMX)).weights == host_row(machine(*card)).weights


def test_half_of_the_instructions_are_not_enough() -> None:
    assert host_row(machine(cpu=replace(AMX, isa=("AMX_INT8",)))) == host_row(machine())
    assert host_row(machine(cpu=AMX)).free_bytes < host_row(machine()).free_bytes + MIB
