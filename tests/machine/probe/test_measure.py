"""Real measurements, of which only the order of magnitude is certain."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.machine.probe.measure import (
    measure_attention,
    measure_cores,
    measure_disk,
    measure_links,
    measure_ram,
)


def test_memory_is_read_at_the_speed_of_memory() -> None:
    rate = measure_ram(1, 1 << 30)
    assert rate is not None
    assert 10**8 < rate < 10**12


def test_threads_are_kept_on_the_cpus_they_are_told() -> None:
    allowed = os.sched_getaffinity(0)
    rate = measure_ram(1, 1 << 30, (min(allowed),))
    assert rate is not None
    assert 10**8 < rate < 10**12
    assert os.sched_getaffinity(0) == allowed
    assert measure_ram(1, 1 << 30, (max(allowed) + 1,)) is None


def test_without_memory_nothing_is_measured() -> None:
    assert measure_ram(4, 1 << 20) is None


@pytest.mark.engine
def test_a_core_multiplies_weights_with_the_engine_s_kernels(engine: Engine) -> None:
    rates = measure_cores(engine.folder)
    assert {"F16", "Q4_0", "Q8_0", "Q4_K", "IQ2_XXS", "MXFP4"} <= set(rates)
    assert all(10**7 < rate < 10**13 for rate in rates.values())
    assert rates["IQ2_XXS"] < rates["Q8_0"]  # a table look-up for eight values: several times slower anywhere


@pytest.mark.engine
def test_a_core_attends_to_cached_tokens_with_the_engine_s_kernel(engine: Engine) -> None:
    rates = measure_attention(engine.folder)
    kinds = [f"{kind} {size}" for kind in ("F16", "BF16", "Q8_0", "Q4_0") for size in (64, 128, 256, 544)]
    assert {"F16 64", "F16 64 far", "F16 544"} <= set(rates) <= {*kinds, *(f"{kind} far" for kind in kinds)}
    assert all(10**4 < rate < 10**10 for rate in rates.values())


@pytest.mark.vulkan
def test_each_gpu_is_copied_to(vulkan_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", "0,0")
    rates = measure_links(vulkan_engine.folder)
    assert set(rates) == {"Vulkan0", "Vulkan1"}
    assert all(10**6 < rate < 10**13 for rate in rates.values())


def test_a_folder_without_kernels_measures_nothing(tmp_path: Path) -> None:
    assert measure_cores(tmp_path) == {}
    assert measure_links(tmp_path) == {}
    assert measure_attention(tmp_path) == {}


def test_a_file_with_holes_is_no_measure_of_a_disk(tmp_path: Path) -> None:
    file = tmp_path / "hollow.gguf"
    with file.open("wb") as out:
        out.truncate(1 << 30)
    assert measure_disk(file, 2) is None


def test_a_disk_is_read_past_the_page_cache(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    with file.open("wb") as out:
        out.write(os.urandom(1 << 20) * 80)
        os.fsync(out.fileno())
    rate = measure_disk(file, 2)
    if rate is None:
        pytest.skip("this file system has no direct reads")
    assert 10**5 < rate < 10**12
