"""Fit the speed laws' factors to the public measurements, cross-validated by rig, and write them.

The loss is the error's logarithm, linear beyond 10 % (published runs have outliers), each rig weighted by the root
of its rows, so that one rig with many does not decide. A factor that no row moves stays at its prior.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.plan.forecast.decode import token_seconds
from launcher.plan.forecast.factors import Bands, Laws
from launcher.plan.forecast.prefill import prompt_seconds
from scripts.fit_basis import MAINLINE, Basis, Vector, ik_basis
from scripts.fit_written import as_written, write
from tests.plan.forecast.measured import IK, Measured, measured

_TOLERANCE = 0.1  # of the logarithm, where the loss becomes linear
_TRUST = 0.5  # weight of the prior: a factor e times away costs as much as five rows that are 10 % off
_PASSES = 12
_LEAST = {"decode": 1.3, "host_decode": 1.5, "prefill": 1.5, "host_prefill": 1.8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """A prediction over what was measured."""

    one: Measured
    prompt: bool
    log: float

    @property
    def off(self) -> float:
        return math.exp(abs(self.log))


def main() -> None:
    rows, ik_rows = measured(), measured(IK)
    validated = cross_validated(rows, MAINLINE)
    laws = as_written(fit(rows, MAINLINE))
    ik = ik_basis(laws)
    ik_validated = cross_validated(ik_rows, ik)
    for what, found in (("held-out rigs", validated), ("held-out rigs, ik", ik_validated)):
        for line in report(found, what):
            sys.stdout.write(line + "\n")
    if "--svg" in sys.argv[1:]:
        from scripts.fit_picture import picture  # noqa: PLC0415  it draws this module's errors

        Path(sys.argv[sys.argv.index("--svg") + 1]).write_text(picture(validated), encoding="utf-8")
    elif "--check" not in sys.argv[1:]:
        found_bands = bands(validated)
        ik_laws = replace(fit(ik_rows, ik), bands=ik_bands(ik_validated, found_bands))
        write(replace(laws, bands=found_bands), ik_laws)


def fit(rows: Sequence[Measured], basis: Basis) -> Laws:
    """Return the laws that are nearest to the rows and the prior; deterministic."""
    weights = Counter(one.rig for one in rows)

    def loss(vector: Vector) -> float:
        laws = basis.laws(vector)
        misses = (_huber(error.log) / math.sqrt(weights[error.one.rig]) for error in errors(rows, laws))
        return sum(misses) + _TRUST * sum(value * value for value in vector)

    return basis.laws(_descend(loss, (0.0,) * len(basis.names)))


def errors(rows: Sequence[Measured], laws: Laws) -> Iterator[Error]:
    """Yield the errors of generation and of prompts."""
    for one in rows:
        if one.decode is not None:
            predicted = 1 / token_seconds(one.stages, one.depth, laws)
            yield Error(one=one, prompt=False, log=math.log(predicted / one.decode))
        if one.prompt is not None:
            predicted = one.prompt.n_tokens / prompt_seconds(one.stages, one.prompt, laws)
            yield Error(one=one, prompt=True, log=math.log(predicted / one.prefill))


def cross_validated(rows: Sequence[Measured], basis: Basis) -> tuple[Error, ...]:
    """Predict each rig from the others."""
    found: list[Error] = []
    for rig in sorted({one.rig for one in rows}):
        laws = fit([one for one in rows if one.rig != rig], basis)
        found += errors([one for one in rows if one.rig == rig], laws)
    return tuple(found)


def bands(validated: Sequence[Error]) -> Bands:
    """Return the factor within which 85 of 100 held-out rows lie, every rig weighing the same.

    Not below _LEAST: the rows on devices are of few models, those of the next user will not be.
    """
    kinds = {
        "decode": [error for error in validated if not error.prompt and not error.one.on_host],
        "host_decode": [error for error in validated if not error.prompt and error.one.on_host],
        "prefill": [error for error in validated if error.prompt and not error.one.on_host],
        "host_prefill": [error for error in validated if error.prompt and error.one.on_host],
    }
    return Bands(**{name: max(_weighted_quantile(kind, 0.85), _LEAST[name]) for name, kind in kinds.items()})


def ik_bands(validated: Sequence[Error], mainline: Bands) -> Bands:
    """Return ik_llama.cpp's bands: no row of it is on devices alone, so these are the host's."""
    wide = {
        name: max(
            _weighted_quantile([error for error in validated if error.prompt is prompt], 0.85),
            getattr(mainline, name),
        )
        for name, prompt in (("host_decode", False), ("host_prefill", True))
    }
    return Bands(decode=wide["host_decode"], prefill=wide["host_prefill"], **wide)


def report(found: Sequence[Error], what: str) -> Iterator[str]:
    """Describe errors in lines, beside two baselines: 0.55 x bandwidth / active bytes, and without the 0.55."""
    for prompt in (False, True):
        off = [error.off for error in found if error.prompt is prompt]
        yield f"{what}, {'prompts' if prompt else 'generation'}: {len(off)} rows, {_spread(off)}"
    generation = [error.one for error in found if not error.prompt]
    for share in (0.55, 1.0):
        off = [_baseline(one, share) for one in generation]
        yield f"{share} x bandwidth / active bytes, generation: {_spread(off)}"


def _spread(off: Sequence[float]) -> str:
    within = sum(value <= 1.5 for value in off) / len(off)
    return f"median {statistics.median(off):.2f}x, {within:.0%} within 1.5x, worst {max(off):.2f}x"


def _baseline(one: Measured, share: float) -> float:
    seconds = sum(stage.read_bytes / (share * stage.processor.bandwidth) for stage in one.stages)
    log = math.log(1 / seconds / (one.decode or 1.0))
    return math.exp(abs(log))


def _huber(log: float) -> float:
    return math.sqrt(1 + (log / _TOLERANCE) ** 2) - 1


def _weighted_quantile(found: Sequence[Error], part: float) -> float:
    weights = Counter(error.one.rig for error in found)
    total = 0.0
    for error in sorted(found, key=lambda error: error.off):
        total += 1 / weights[error.one.rig]
        if total >= part * len(weights):
            return error.off
    return max(error.off for error in found)


def _descend(loss: Callable[[Vector], float], start: Vector) -> Vector:
    """Minimise by coordinates: each in turn by ever smaller steps."""
    at, best = start, loss(start)
    step = 0.4
    for _ in range(_PASSES):
        before = best
        for index in range(len(at)):
            for sign in (1, -1):
                while True:
                    tried = (*at[:index], at[index] + sign * step, *at[index + 1 :])
                    value = loss(tried)
                    if value >= best - 1e-9:
                        break
                    at, best = tried, value
        if before - best < 1e-3:
            step /= 2
    return at


if __name__ == "__main__":
    main()
