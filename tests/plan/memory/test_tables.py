"""Tables that are read by rows from the file: which, when, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.engine.flags.command_line import read_command
from launcher.engine.flags.pinned_flags import PINNED_ARITIES
from launcher.gguf.ggml import GgmlType
from launcher.gguf.model import ModelFile
from launcher.gguf.tensors import TensorInfo
from launcher.machine.machine import Backend, Device
from launcher.plan.amounts import HOST
from launcher.plan.check.check import Check, check_configuration
from launcher.plan.memory.tables import describe_tables, find_tables, settled_lazy_mode
from launcher.plan.memory.weights import weigh
from launcher.plan.modes import LazyMode, LoadMode, TensorOverride
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.workload import Workload
from launcher.units import GIB
from tests.plan.check.checks import SILENT
from tests.plan.planned import make_plan
from tests.plan.shapes import architecture_of, cards, device, machine, model

TABLE = "per_layer_token_embd.weight"
MODEL = model("gemma4")
ARCHITECTURE = architecture_of(MODEL)


def table_in(tensors: tuple[TensorInfo, ...]) -> TensorInfo:
    return next(tensor for tensor in tensors if tensor.name == TABLE)


def with_large_table(file: ModelFile) -> ModelFile:
    (header,) = file.headers
    rows = (4 * GIB) // 408 + 1
    tensors = tuple(
        replace(tensor, shape=(384, rows), size_bytes=408 * rows) if tensor.name == TABLE else tensor
        for tensor in header.tensors
    )
    return replace(file, headers=(replace(header, tensors=tensors),))


LARGE = with_large_table(MODEL)


def test_the_sizes_are_on_both_sides_of_the_threshold() -> None:
    assert table_in(MODEL.tensors).size_bytes < 4 * GIB < table_in(LARGE.tensors).size_bytes


@pytest.mark.parametrize(
    ("mode", "small", "large"),
    [(LazyMode.ON, True, True), (LazyMode.AUTO, False, True), (LazyMode.OFF, False, False)],
)
def test_a_mode_decides_by_size(mode: LazyMode, small: bool, large: bool) -> None:
    for file, expected in ((MODEL, small), (LARGE, large)):
        found = find_tables(ARCHITECTURE, file.tensors, mode, mapped=False)
        assert found == ({TABLE} if expected else set())


def test_only_what_is_marked_is_lazy() -> None:
    """gemma3n has such a table, and src/models/gemma3n.cpp does not mark it."""
    other = replace(ARCHITECTURE, name="gemma3n")
    assert not find_tables(other, LARGE.tensors, LazyMode.ON, mapped=False)
    assert find_tables(other, LARGE.tensors, LazyMode.OFF, mapped=True) == {TABLE}


def test_an_override_moves_a_mapped_table_and_not_a_lazy_one() -> None:
    rules = (TensorOverride(pattern="per_layer_token_embd", where="CUDA0"),)
    assert not find_tables(ARCHITECTURE, LARGE.tensors, LazyMode.OFF, mapped=True, overrides=rules)
    lazy = find_tables(ARCHITECTURE, LARGE.tensors, LazyMode.AUTO, mapped=True, overrides=rules)
    assert lazy == {TABLE}
    weights = weigh(ARCHITECTURE, LARGE.tensors, {Backend.CUDA}, rules, lazy)
    assert weights.file_bytes == table_in(LARGE.tensors).size_bytes
    assert weights.overridden_on("CUDA0").n_bytes == 0


@pytest.mark.parametrize(
    ("shared", "backend", "settled"),
    [
        (True, Backend.CUDA, LazyMode.OFF),
        (True, Backend.VULKAN, LazyMode.OFF),
        (True, Backend.METAL, LazyMode.AUTO),
        (False, Backend.CUDA, LazyMode.AUTO),
    ],
)
def test_auto_is_off_where_a_device_cannot_map(shared: bool, backend: Backend, settled: LazyMode) -> None:
    """ggml-org/llama.cpp#28326."""
    devices = (device(0, GIB, backend=backend, shares_host_memory=shared),)
    assert settled_lazy_mode(LazyMode.AUTO, devices) is settled
    assert settled_lazy_mode(LazyMode.ON, devices) is LazyMode.ON


def checked(line: str, *devices: Device) -> Check:
    configuration = read_command([f"llama-server -c 4096 -np 1 --cache-ram 0 {line}"]).configuration
    return check_configuration(configuration, LARGE, machine(*devices, ram_bytes=8 * GIB), SILENT, "m.gguf")


@pytest.mark.parametrize("line", ["-lm none", "-lm mmap", "", "--mlock --no-mmap", "-lm mmap -lzm off"])
def test_a_table_in_the_file_needs_no_memory(line: str) -> None:
    found = checked(line)
    assert found.ledger[-1].file_bytes == table_in(LARGE.tensors).size_bytes
    assert found.ledger[-1].weights.n_bytes < 4 * GIB
    assert any("read by rows from the file" in reason for reason in found.reasons)


@pytest.mark.parametrize("line", ["-lm none -lzm off", "-lm mmap+mlock", "--mlock", "-lm dio -lzm off"])
def test_a_table_in_ram_is_counted(line: str) -> None:
    found = checked(line)
    assert found.ledger[-1].file_bytes == 0
    assert found.ledger[-1].weights.n_bytes > table_in(LARGE.tensors).size_bytes
    assert any("read into RAM whole" in reason for reason in found.reasons)


def test_an_integrated_gpu_gets_the_flag_named() -> None:
    integrated = device(0, 8 * GIB, shares_host_memory=True)
    found = checked("", integrated)
    assert found.ledger[-1].file_bytes == 0
    (reason,) = [reason for reason in found.reasons if "read into RAM whole" in reason]
    assert (
        "--lazy-mode auto is off where CUDA0 computes, since llama.cpp's PR 28326 of 2026-09; --lazy-mode on"
        in reason
    )
    assert checked("-lzm on", integrated).ledger[-1].file_bytes > 4 * GIB


def test_an_engine_without_the_flag_loads_the_table() -> None:
    older = {flag: n for flag, n in PINNED_ARITIES.items() if flag not in {"-lzm", "--lazy-mode"}}
    command = read_command(["-m", "m.gguf", "-c", "4096", "-lm", "none"], older)
    found = check_configuration(command.configuration, LARGE, machine(ram_bytes=8 * GIB), SILENT, "m.gguf")
    assert found.ledger[-1].file_bytes == 0


def test_a_plan_leaves_the_table_in_the_file() -> None:
    plan = make_plan(LARGE, "Q8_0", machine(*cards(4000), ram_bytes=4 * GIB), Workload(ctx_size=4096))
    assert isinstance(plan, Plan)
    assert plan.ledger[-1].where == HOST
    assert plan.ledger[-1].file_bytes == table_in(LARGE.tensors).size_bytes
    assert any("read by rows" in reason for reason in plan.reasons)
    asked = Workload(ctx_size=4096, lazy_mode=LazyMode.OFF, load_mode=LoadMode.NONE)
    short = make_plan(LARGE, "Q8_0", machine(*cards(4000), ram_bytes=4 * GIB), asked)
    assert isinstance(short, Shortfall)


def test_what_a_read_costs_is_by_rows_of_the_architecture() -> None:
    table = TensorInfo(
        name=TABLE, shape=(160, 320_001_536), type=GgmlType.IQ4_NL, offset=0, size_bytes=90 * 320_001_536
    )
    metadata = {
        "general.architecture": "qwen4exp",
        "qwen4exp.ple.ngram_size": 3,
        "qwen4exp.ple.heads_per_ngram": 8,
    }
    _, cost = describe_tables([table], metadata, frozenset({TABLE}), ())
    assert "16 rows of 90 B" in cost
    assert "up to 2.1 ms a token and 4.3 s for a prompt of 2048 from an SSD" in cost
    assert "0.16 s a token from a disk that turns" in cost
