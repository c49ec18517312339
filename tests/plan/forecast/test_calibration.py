"""The fit again: the shipped factors are what the measurements give, and held-out rigs lie within the bands."""

from __future__ import annotations

import math
import statistics

import pytest

from launcher.plan.forecast.decode import token_seconds
from launcher.plan.forecast.factors import IK_LAWS, LAWS, Bands, Laws
from launcher.plan.forecast.processors import ProcessorFamily
from scripts.fit_basis import MAINLINE, ik_basis
from scripts.fit_forecast import (
    Error,
    bands,
    cross_validated,
    errors,
    fit,
    ik_bands,
    report,
)
from tests.plan.forecast.measured import IK, measured


@pytest.fixture(scope="module")
def held_out() -> tuple[Error, ...]:
    return cross_validated(measured(), MAINLINE)


def test_the_shipped_factors_are_the_fitted_ones(held_out: tuple[Error, ...]) -> None:
    _alike(fit(measured(), MAINLINE), LAWS)
    assert _rounded(bands(held_out)) == LAWS.bands


def test_ik_llama_cpp_has_factors_of_its_own_for_prompts() -> None:
    rows, basis = measured(IK), ik_basis(LAWS)
    held_out = cross_validated(rows, basis)
    _alike(fit(rows, basis), IK_LAWS)
    assert _rounded(ik_bands(held_out, LAWS.bands)) == IK_LAWS.bands
    off = {prompt: [error.off for error in held_out if error.prompt is prompt] for prompt in (False, True)}
    assert statistics.median(off[False]) <= 1.15
    assert statistics.median(off[True]) <= 1.30
    assert statistics.median(error.off for error in errors(rows, LAWS) if error.prompt) > 1.6
    assert IK_LAWS.of(ProcessorFamily.METAL) == LAWS.of(ProcessorFamily.METAL)


def _alike(fitted: Laws, shipped: Laws) -> None:
    for family, factors in fitted.families.items():
        for name in factors.__slots__:
            value = getattr(shipped.of(family), name)
            assert math.isclose(getattr(factors, name), value, rel_tol=0.01), (family, name)
    for name in ("few_rows", "second_socket", "head_time"):
        assert math.isclose(getattr(fitted, name), getattr(shipped, name), rel_tol=0.01), name


def _rounded(found: Bands) -> Bands:
    return Bands(**{name: round(getattr(found, name), 2) for name in found.__slots__})


@pytest.mark.parametrize(("prompt", "median"), [(False, 1.20), (True, 1.35)])
def test_rigs_that_the_fit_has_not_seen_are_predicted(
    held_out: tuple[Error, ...], median: float, *, prompt: bool
) -> None:
    off = [error.off for error in held_out if error.prompt is prompt]
    assert len(off) > 60
    assert statistics.median(off) <= median
    assert sum(value <= 1.5 for value in off) >= 0.8 * len(off)


def test_bands_hold_what_they_say(held_out: tuple[Error, ...]) -> None:
    widths = {
        (False, False): LAWS.bands.decode,
        (False, True): LAWS.bands.host_decode,
        (True, False): LAWS.bands.prefill,
        (True, True): LAWS.bands.host_prefill,
    }
    inside = [error.off <= widths[error.prompt, error.one.on_host] for error in held_out]
    assert sum(inside) >= 0.75 * len(inside)


def test_the_laws_beat_one_line(held_out: tuple[Error, ...]) -> None:
    off = [error.off for error in held_out if not error.prompt]
    *_, reached, named = report(held_out, "")
    for baseline in (reached, named):
        assert statistics.median(off) < float(baseline.split("median ")[1].split("x")[0])
        assert max(off) < float(baseline.split("worst ")[1].split("x")[0])


def test_experts_on_the_host_slow_generation_down_as_measured() -> None:
    """gpt-oss-20b on an RX 7900 XT with 0, 4, 8, 16 and 24 blocks' experts in DDR4: 94, 60, 38, 26, 20 tokens/s."""
    curve = [one for one in measured() if one.rig.startswith("7900xt") and one.prompt is None]
    predicted = [1 / token_seconds(one.stages, 0) for one in curve]
    assert predicted == sorted(predicted, reverse=True)
    assert all(error.off < 1.25 for error in errors(curve, LAWS))
