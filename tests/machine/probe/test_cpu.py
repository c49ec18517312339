from pathlib import Path

import pytest

from launcher.machine.probe.apple import parse_sysctl
from launcher.machine.probe.cpu import parse_apple_cpu, parse_cores, parse_cpu_name, parse_isa, read_cpu
from launcher.machine.probe.proc_files import KernelFiles
from tests.machine.probe.trees import capture, plant


def test_hybrid_cpu_counts_performance_cores(tmp_path: Path) -> None:
    files = plant(tmp_path, "hybrid_laptop.txt")
    cpu = read_cpu(files, range(6), None)
    assert (cpu.physical_cores, cpu.performance_cores, cpu.logical_cores, cpu.affinity) == (4, 2, 6, 6)
    assert cpu.name == "13th Gen Intel(R) Core(TM) i7-1355U"
    assert cpu.isa == ("AVX", "AVX_VNNI", "AVX2", "F16C", "FMA", "BMI2")


def test_affinity_leaves_fewer_cores(tmp_path: Path) -> None:
    files = plant(tmp_path, "hybrid_laptop.txt")
    cpu = read_cpu(files, {0, 1, 4}, 1.5)
    assert (cpu.physical_cores, cpu.performance_cores, cpu.logical_cores, cpu.affinity) == (2, 1, 6, 3)
    assert cpu.quota == 1.5
    only_efficient = read_cpu(files, {4, 5}, None)
    assert (only_efficient.physical_cores, only_efficient.performance_cores) == (2, 2)


def test_arm_cores_by_capacity(tmp_path: Path) -> None:
    cpu = read_cpu(plant(tmp_path, "arm_big_little.txt"), range(4), None)
    assert (cpu.physical_cores, cpu.performance_cores) == (4, 2)
    assert cpu.isa == ("NEON", "FP16_VA", "MATMUL_INT8", "SVE", "DOTPROD")
    assert cpu.name is None


def test_cores_from_cpuinfo_where_sysfs_is_silent(tmp_path: Path) -> None:
    text = capture("hybrid_laptop.txt").split("== ")[1]
    cpu = read_cpu(plant(tmp_path, **{"/proc/cpuinfo": text}), range(2), None)
    assert (cpu.physical_cores, cpu.logical_cores) == (1, 2)
    assert parse_cores(text) == {frozenset({0, 1})}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx avx2 avx512f avx512cd avx512vl avx512dq", ("AVX", "AVX2")),  # avx512bw is missing
        ("avx512f avx512cd avx512vl avx512dq avx512bw avx512_vnni", ("AVX512", "AVX512_VNNI")),
        ("amx_tile amx_int8 amx_bf16 avx512_bf16 avx512vbmi", ("AVX512_VBMI", "AVX512_BF16", "AMX_INT8")),
        ("amx_int8", ()),
        ("", ()),
    ],
)
def test_isa_flags_in_ggml_spelling(flags: str, expected: tuple[str, ...]) -> None:
    assert parse_isa(f"processor\t: 0\nflags\t\t: {flags}\n") == expected


def test_cpuinfo_garbage() -> None:
    assert (parse_isa("\x00nonsense"), parse_cpu_name("model name\t:\n"), parse_cores("core id: x")) == (
        (),
        None,
        frozenset(),
    )


def test_cpu_of_a_mac() -> None:
    cpu = parse_apple_cpu(parse_sysctl(capture("sysctl_m3_ultra.txt")))
    assert (cpu.name, cpu.physical_cores, cpu.performance_cores, cpu.logical_cores) == (
        "Apple M3 Ultra",
        32,
        24,
        32,
    )
    assert cpu.isa == ("NEON", "FP16_VA", "MATMUL_INT8", "DOTPROD")
    assert parse_apple_cpu({}).physical_cores is None


def test_a_cpu_that_tells_nothing(tmp_path: Path) -> None:
    cpu = read_cpu(KernelFiles(root=tmp_path), {0, 1}, None)
    assert (cpu.physical_cores, cpu.performance_cores, cpu.logical_cores, cpu.isa) == (None, None, 2, ())
