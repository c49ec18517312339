"""Models of real sizes and quantised types, compared with llama.cpp's own no_alloc pass.

Short form of `scripts/bench simulate --only widths`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.simulate.client import SimulatorPool
from tests.simulate.engine_log import software_gpus
from tests.simulate.fit_params import fit_print, largest_gap, simulate_fit
from tests.simulate.real_model_sizes import AT_LEAST_MIB, PART, width_cases


@pytest.mark.vulkan
def test_real_widths_agree_with_fit_params(
    vulkan_engine: Engine, simulators: SimulatorPool, tmp_path: Path
) -> None:
    gaps = {}
    for what, question in width_cases(tmp_path, software_gpus(3), every=15):
        real = fit_print(vulkan_engine.folder / "llama-fit-params", question)
        simulated = simulate_fit(simulators, question)
        assert not isinstance(simulated, str), simulated
        gaps[what] = largest_gap(simulated, real, part=PART, at_least_mib=AT_LEAST_MIB)

    assert len(gaps) == 8
    assert {what: gap for what, (gap, holds) in gaps.items() if not holds} == {}
    assert len({what.split()[0] for what in gaps}) == 4
