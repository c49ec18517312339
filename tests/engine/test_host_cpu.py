from __future__ import annotations

import pytest

from launcher.engine.host_cpu import code_generation_flags, host_cpu, parse_cpu_flags


def test_only_flags_that_change_code_count() -> None:
    flags = ("avx2", "avx512f", "amx_int8", "hypervisor", "retbleed", "fma", "md_clear")
    assert code_generation_flags(flags, "x86_64") == ("amx_int8", "avx2", "avx512f", "fma")
    assert code_generation_flags(("asimd", "sve", "asimd"), "aarch64") == ("asimd", "sve")


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (
            "processor\t: 0\nflags\t\t: fpu avx2\nprocessor\t: 1\nflags\t\t: avx2 fpu avx512f\n",
            ("avx2", "fpu"),
        ),
        ("processor\t: 0\nFeatures\t: fp asimd\n", ("asimd", "fp")),
        ("processor\t: 0\n", ()),
        ("", ()),
    ],
)
def test_cpu_flags_that_every_core_has(text: str, flags: tuple[str, ...]) -> None:
    assert parse_cpu_flags(text) == flags


def test_the_host_has_an_architecture() -> None:
    cpu = host_cpu()
    assert cpu.arch
    assert cpu.flags
