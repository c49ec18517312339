"""Processors by the names that /proc/cpuinfo and people give."""

from __future__ import annotations

import pytest

from launcher.machine.cpus import memory_system, named_sockets, socket_cores

NAMES = [
    ("AMD EPYC 9355 32-Core Processor", 614.4, 32),
    ("AMD EPYC 9654 96-Core Processor", 460.8, 96),
    ("AMD EPYC 7543 32-Core Processor", 204.8, 32),
    ("AMD EPYC 7601 32-Core Processor", 170.6, 32),
    ("AMD Ryzen Threadripper PRO 7965WX 24-Cores", 332.8, 24),
    ("AMD Ryzen Threadripper PRO 3945WX 12-Cores", 204.8, 12),
    ("AMD Ryzen Threadripper 3970X 32-Core Processor", 102.4, 32),
    ("AMD Ryzen 9 9950X 16-Core Processor", 89.6, 16),
    ("AMD Ryzen 7 9800X3D 8-Core Processor", 89.6, 8),
    ("AMD Ryzen 9 7950X 16-Core Processor", 83.2, 16),
    ("AMD Ryzen 5 5600X 6-Core Processor", 51.2, 6),
    ("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", 256.0, 16),
    ("Intel(R) Xeon(R) 6980P", 614.4, 128),
    ("Intel(R) Xeon(R) Gold 6454S", 307.2, 32),
    ("Intel(R) Xeon(R) Platinum 8480+", 307.2, 56),
    ("Intel(R) Xeon(R) Platinum 8488C", 307.2, 48),
    ("Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", 140.8, 20),
    ("Intel(R) Xeon(R) CPU E5-2699 v4 @ 2.20GHz", 76.8, 22),
    ("Intel(R) Core(TM) i9-14900K", 89.6, 24),
    ("Intel(R) Core(TM) i9-10900X CPU @ 3.70GHz", 93.9, 10),
    ("Intel(R) Core(TM) Ultra 7 265K", 102.4, 20),
    ("Intel(R) Core(TM) Ultra 7 155H", 89.6, 16),
    ("12th Gen Intel(R) Core(TM) i7-12700K", 76.8, 12),
    ("Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", 42.7, 6),
    ("TR PRO 7965WX 24C", 332.8, 24),
    ("Intel QYFS-class Xeon (W790)", 307.2, 56),
    ("2x Xeon E5-2690 v3", 68.3, 12),
    ("AmpereOne A192-32X", 332.8, 192),
]


@pytest.mark.parametrize(("name", "gb_s", "cores"), NAMES)
def test_a_name_gives_memory_and_cores(name: str, gb_s: float, cores: int) -> None:
    memory = memory_system(name)
    assert memory is not None
    assert round(memory.bandwidth / 1e9, 1) == gb_s
    assert socket_cores(name) == cores


def test_an_unknown_name_is_unknown() -> None:
    assert memory_system("VIA Nano") is None
    assert socket_cores("VIA Nano") is None
    assert memory_system("") is None


def test_sockets_are_counted_where_the_name_says_so() -> None:
    assert named_sockets("2 x AMD EPYC 9355") == 2
    assert named_sockets("AMD EPYC 9355") == 1
    assert named_sockets(None) == 1
