"""Fit the speed laws' factors to the public measurements, cross-validated by rig, and write them.

The loss is the error's logarithm, linear beyond 10 % (published runs have outliers), each rig weighted by the root
of its rows, so that one rig with many does not decide. A factor that no row moves stays at its prior.
"""

from __future__ import annotations

import math
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from launcher.plan.forecast.decode import token_seconds
from launcher.plan.forecast.factors import Factors, Laws
from launcher.plan.forecast.prefill import prompt_seconds
from launcher.plan.forecast.processors import ProcessorFamily as Family
from tests.plan.forecast.measured import Measured, measured

TARGET = Path(__file__).resolve().parent.parent / "launcher/plan/forecast/factors.py"
# A guess from before the fit. Where rows are few it counts; old CUDA cards have two rigs, AMD's cards one.
PRIOR = Laws(
    families={
        Family.CUDA: Factors(
            weights=0.8,
            cache=0.5,
            latent_cache=0.16,
            layer_s=8e-5,
            products=0.2,
            attention=0.2,
            value_s=7e-10,
        ),
        Family.OLD_CUDA: Factors(
            weights=0.55,
            cache=0.4,
            latent_cache=0.12,
            layer_s=8e-5,
            products=0.3,
            attention=0.2,
            value_s=7e-10,
        ),
        Family.METAL: Factors(
            weights=0.7,
            cache=0.3,
            latent_cache=0.1,
            layer_s=1.8e-4,
            products=0.45,
            attention=0.3,
            value_s=7e-10,
        ),
        Family.OTHER_GPU: Factors(
            weights=0.6,
            cache=0.4,
            latent_cache=0.12,
            layer_s=1.5e-4,
            products=0.3,
            attention=0.15,
            value_s=7e-10,
        ),
        Family.HOST: Factors(
            weights=0.6,
            cache=0.12,
            latent_cache=0.04,
            layer_s=3e-5,
            products=1.0,
            attention=0.5,
            value_s=1e-12,
        ),
    },
    second_socket=0.2,
    few_rows=20.0,
)
_TOLERANCE = 0.1  # of the logarithm, where the loss becomes linear
_TRUST = 0.2  # weight of the prior: a factor e times away costs as much as two rows that are 10 % off
_PASSES = 12
_LEAST = {"DECODE_BAND": 1.3, "HOST_BAND": 1.5, "PREFILL_BAND": 1.5, "HOST_PREFILL_BAND": 1.8}

Vector = tuple[float, ...]


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
    rows = measured()
    validated = cross_validated(rows)
    for line in report(validated, "held-out rigs"):
        sys.stdout.write(line + "\n")
    if "--check" not in sys.argv[1:]:
        write(fit(rows), bands(validated))


def fit(rows: Sequence[Measured]) -> Laws:
    """Return the laws that are nearest to the rows and the prior; deterministic."""
    weights = Counter(one.rig for one in rows)

    def loss(vector: Vector) -> float:
        laws = _laws(vector)
        misses = (_huber(error.log) / math.sqrt(weights[error.one.rig]) for error in errors(rows, laws))
        return sum(misses) + _TRUST * sum(value * value for value in vector)

    return _laws(_descend(loss, (0.0,) * len(_names())))


def errors(rows: Sequence[Measured], laws: Laws) -> Iterator[Error]:
    """Yield the errors of generation and of prompts."""
    for one in rows:
        if one.decode is not None:
            predicted = 1 / token_seconds(one.stages, one.depth, laws)
            yield Error(one=one, prompt=False, log=math.log(predicted / one.decode))
        if one.prompt is not None:
            predicted = one.prompt.n_tokens / prompt_seconds(one.stages, one.prompt, laws)
            yield Error(one=one, prompt=True, log=math.log(predicted / one.prefill))


def cross_validated(rows: Sequence[Measured]) -> tuple[Error, ...]:
    """Predict each rig from the others."""
    found: list[Error] = []
    for rig in sorted({one.rig for one in rows}):
        laws = fit([one for one in rows if one.rig != rig])
        found += errors([one for one in rows if one.rig == rig], laws)
    return tuple(found)


def bands(validated: Sequence[Error]) -> dict[str, float]:
    """Return the factor within which 85 of 100 held-out rows lie, every rig weighing the same.

    Not below _LEAST: the rows on devices are of few models, those of the next user will not be.
    """
    kinds = {
        "DECODE_BAND": [error for error in validated if not error.prompt and not error.one.on_host],
        "HOST_BAND": [error for error in validated if not error.prompt and error.one.on_host],
        "PREFILL_BAND": [error for error in validated if error.prompt and not error.one.on_host],
        "HOST_PREFILL_BAND": [error for error in validated if error.prompt and error.one.on_host],
    }
    return {name: max(_weighted_quantile(kind, 0.85), _LEAST[name]) for name, kind in kinds.items()}


def report(found: Sequence[Error], what: str) -> Iterator[str]:
    """Describe errors in lines, beside the baseline of 0.55 x bandwidth / active bytes."""
    for prompt in (False, True):
        off = [error.off for error in found if error.prompt is prompt]
        name = "prompts" if prompt else "generation"
        within = sum(value <= 1.5 for value in off) / len(off)
        yield (
            f"{what}, {name}: {len(off)} rows, median {statistics.median(off):.2f}x, "
            f"{within:.0%} within 1.5x, worst {max(off):.2f}x"
        )
    base = [_baseline(error.one) for error in found if not error.prompt]
    yield (
        f"0.55 x bandwidth / active bytes, generation: median {statistics.median(base):.2f}x, "
        f"{sum(value <= 1.5 for value in base) / len(base):.0%} within 1.5x, worst {max(base):.2f}x"
    )


def _baseline(one: Measured) -> float:
    seconds = sum(stage.read_bytes / (0.55 * stage.processor.bandwidth) for stage in one.stages)
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


def _names() -> tuple[tuple[Family | None, str], ...]:
    """List what is fitted."""
    families = [(family, field.name) for family in PRIOR.families for field in fields(Factors)]
    return (*families, (None, "second_socket"), (None, "few_rows"))


def _laws(vector: Vector) -> Laws:
    """Scale the prior's factors by the exponentials of a vector."""
    scales = dict(zip(_names(), map(math.exp, vector), strict=True))
    families = {
        family: Factors(
            **{f.name: getattr(factors, f.name) * scales[family, f.name] for f in fields(Factors)}
        )
        for family, factors in PRIOR.families.items()
    }
    return Laws(
        families=families,
        second_socket=PRIOR.second_socket * scales[None, "second_socket"],
        few_rows=PRIOR.few_rows * scales[None, "few_rows"],
    )


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


def write(laws: Laws, found: dict[str, float]) -> None:
    """Write the factors between the marks of factors.py."""
    lines = ["LAWS = Laws(", "    families={"]
    for family, factors in laws.families.items():
        values = ", ".join(f"{f.name}={_short(getattr(factors, f.name))}" for f in fields(Factors))
        lines.append(f"        ProcessorFamily.{family.name}: Factors({values}),")
    lines += [
        "    },",
        f"    second_socket={_short(laws.second_socket)},",
        f"    few_rows={_short(laws.few_rows)},",
        ")",
    ]
    lines.append(
        "# Factors up and down that held 85 of 100 rows of rigs which the fit had not seen, or\n# the least that is believed."
    )
    lines += [f"{name} = {value:.2f}" for name, value in found.items()]
    text = TARGET.read_text(encoding="utf-8")
    between = re.compile(r"(# fitted: begin[^\n]*\n).*?(# fitted: end)", re.DOTALL)
    TARGET.write_text(
        between.sub(lambda match: match[1] + "\n".join(lines) + "\n" + match[2], text), encoding="utf-8"
    )


def _short(value: float) -> str:
    return f"{value:.3g}"


if __name__ == "__main__":
    main()
