"""The compute estimate against reservations that llama.cpp 0c1e570 made on virtual GPUs.

MiB of `sched_reserve: … compute buffer size` (the host's with its output rows), from spikes on hollow models
of real widths; launcher/plan/DESIGN.md sums them up.
"""

from __future__ import annotations

import pytest

from launcher.machine.machine import Backend
from launcher.plan.memory.compute import Role, device_compute, host_compute, size_graph
from launcher.plan.memory.kv import size_caches
from launcher.plan.memory.weights import weigh
from launcher.units import MIB
from tests.plan.shapes import architecture_of, model, parameters

KIMI, QWEN = ("deepseek2", "kimi-k2.5"), ("qwen3moe", "qwen3-235b")
LLAMA, GEMMA = ("llama", "llama-3.3-70b"), ("gemma3", "gemma-3-27b")

DEVICES = [
    # model, context, ubatch, slots, flash attention, devices, experts on host, MiB of the first and of the last
    (KIMI, 8192, 512, 1, True, 1, False, (260.01, None)),
    (KIMI, 65536, 512, 1, True, 1, False, (316.01, None)),
    (KIMI, 32768, 2048, 4, True, 1, False, (1136.02, None)),
    (KIMI, 8192, 512, 1, False, 1, False, (1242.01, None)),
    (KIMI, 8192, 512, 1, True, 1, True, (3220.01, None)),
    (KIMI, 8192, 512, 1, True, 2, True, (6062.75, 210.01)),
    (KIMI, 32768, 2048, 4, True, 2, True, (6107.0, 936.02)),
    (KIMI, 8192, 512, 1, True, 2, False, (340.02, 382.77)),
    (KIMI, 32768, 2048, 4, True, 4, False, (1744.09, 1915.09)),
    (QWEN, 8192, 512, 1, True, 1, False, (176.01, None)),
    (QWEN, 8192, 512, 1, False, 1, False, (1090.01, None)),
    (LLAMA, 8192, 512, 1, True, 1, False, (224.01, None)),
    (LLAMA, 8192, 512, 1, False, 1, False, (1108.01, None)),
    (LLAMA, 32768, 2048, 4, True, 2, False, (1632.16, 1888.16)),
    (GEMMA, 8192, 512, 1, True, 1, False, (164.52, None)),
    (GEMMA, 65536, 512, 1, True, 4, False, (459.07, 501.07)),
    (GEMMA, 8192, 512, 1, False, 1, False, (584.01, None)),
]
HOSTS = [
    # model, context, ubatch, slots, flash attention, devices, MiB
    (KIMI, 8192, 512, 1, True, 0, 274.63),
    (KIMI, 8192, 512, 1, False, 0, 1256.63),
    (KIMI, 8192, 512, 1, True, 1, 36.63),
    (KIMI, 8192, 512, 1, True, 2, 102.65),
    (LLAMA, 32768, 2048, 4, True, 0, 1058.01),
    (LLAMA, 8192, 512, 1, False, 2, 160.52),
    (GEMMA, 8192, 512, 1, False, 2, 193.55),
    (GEMMA, 32768, 2048, 4, True, 0, 818.08),
    (QWEN, 32768, 2048, 4, True, 0, 834.37),
]


@pytest.mark.parametrize(
    ("shape", "ctx", "ubatch", "slots", "flash", "n_devices", "experts", "measured"), DEVICES
)
def test_devices_stay_within_the_band(
    shape: tuple[str, str],
    ctx: int,
    ubatch: int,
    slots: int,
    flash: bool,
    n_devices: int,
    experts: bool,
    measured: tuple[float, float | None],
) -> None:
    file = model(*shape)
    architecture = architecture_of(file)
    asked = parameters(ctx, ubatch_size=ubatch, n_parallel=slots, flash_attn=flash)
    graph = size_graph(architecture, asked, size_caches(architecture, asked), Backend.VULKAN)
    largest = max(layer.largest_expert_bytes for layer in weigh(architecture, file.tensors).layers)
    for mib, first in zip(measured, (True, False), strict=True):
        if mib is None:
            continue
        role = Role(
            backend=Backend.VULKAN,
            first=first,
            last=not first or n_devices == 1,
            n_devices=n_devices,
            pipeline=n_devices > 1 and not experts,
            copied_bytes=largest if experts else 0,
            copied_kv_bytes=0,
        )
        amount = device_compute(graph, role)
        assert mib <= (amount.n_bytes + amount.band_bytes) / MIB
        assert amount.n_bytes / MIB <= 1.5 * mib + 16  # it leans high, and not by much


@pytest.mark.parametrize(("shape", "ctx", "ubatch", "slots", "flash", "n_devices", "measured"), HOSTS)
def test_the_host_stays_within_the_band(
    shape: tuple[str, str], ctx: int, ubatch: int, slots: int, flash: bool, n_devices: int, measured: float
) -> None:
    architecture = architecture_of(model(*shape))
    asked = parameters(ctx, ubatch_size=ubatch, n_parallel=slots, flash_attn=flash)
    backend = Backend.VULKAN if n_devices else Backend.CPU
    graph = size_graph(architecture, asked, size_caches(architecture, asked), backend)
    amount = host_compute(graph, pipeline=n_devices > 1, computes=n_devices == 0, holds_weights=False)
    assert measured <= (amount.n_bytes + amount.band_bytes) / MIB
    assert amount.n_bytes / MIB <= 1.5 * measured + 16
