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
from dataclasses import dataclass, fields, replace
from pathlib import Path

from launcher.plan.forecast.decode import token_seconds
from launcher.plan.forecast.factors import Bands, Factors, Laws
from launcher.plan.forecast.prefill import prompt_seconds
from launcher.plan.forecast.processors import ProcessorFamily as Family
from tests.plan.forecast.measured import IK, Measured, measured

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
            cache=0.5,
            latent_cache=0.5,
            layer_s=3e-5,
            products=1.0,
            attention=0.5,
            value_s=1e-12,
        ),
    },
    second_socket=0.2,
    few_rows=20.0,
    head_time=1.0,
    bands=Bands(decode=1.3, host_decode=1.5, prefill=1.5, host_prefill=1.8),
)
_TOLERANCE = 0.1  # of the logarithm, where the loss becomes linear
_TRUST = 0.5  # weight of the prior: a factor e times away costs as much as five rows that are 10 % off
_PASSES = 12
_LEAST = {"decode": 1.3, "host_decode": 1.5, "prefill": 1.5, "host_prefill": 1.8}

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Where a fit begins, and the factors that it moves: those of a family, or of all (None)."""

    prior: Laws
    names: tuple[tuple[Family | None, str], ...]

    def laws(self, vector: Vector) -> Laws:
        """Scale the prior's factors by the exponentials of a vector."""
        scales = dict(zip(self.names, map(math.exp, vector), strict=True))
        prior = self.prior
        families = {
            family: Factors(
                **{
                    f.name: getattr(factors, f.name) * scales.get((family, f.name), 1.0)
                    for f in fields(Factors)
                }
            )
            for family, factors in prior.families.items()
        }
        return replace(
            prior,
            families=families,
            second_socket=prior.second_socket * scales.get((None, "second_socket"), 1.0),
            few_rows=prior.few_rows * scales.get((None, "few_rows"), 1.0),
            head_time=prior.head_time * scales.get((None, "head_time"), 1.0),
        )


# Six rows of one model on one AMD card cannot tell the share of the bandwidth from a launch beside it.
_UNTOLD = {(Family.OTHER_GPU, "weights")}
MAINLINE = Basis(
    prior=PRIOR,
    names=(
        *(
            (family, field.name)
            for family in PRIOR.families
            for field in fields(Factors)
            if (family, field.name) not in _UNTOLD
        ),
        (None, "second_socket"),
        (None, "few_rows"),
    ),
)


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


def ik_basis(laws: Laws) -> Basis:
    """Return the basis of ik_llama.cpp's laws: llama.cpp's, of which the rows move what prompts depend on."""
    # llama.cpp's factors predict its generation within 1.10x, as well as factors of its own; its prompts they
    # predict 1.7 times too slow. All of its rows have experts on the host.
    names = tuple(
        (family, name)
        for family in (Family.CUDA, Family.HOST)
        for name in ("products", "attention", "value_s")
    )
    return Basis(prior=laws, names=(*names, (None, "few_rows"), (None, "head_time")))


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


def write(laws: Laws, ik: Laws) -> None:
    """Write the factors between the marks of factors.py, ik_llama.cpp's as what differs from llama.cpp's."""
    families = "".join(
        f"ProcessorFamily.{family.name}: {_call('Factors', factors)},"
        for family, factors in laws.families.items()
    )
    others = "".join(
        f"ProcessorFamily.{family.name}: replace(LAWS.of(ProcessorFamily.{family.name}), "
        f"{_differences(factors, laws.of(family))}),"
        for family, factors in ik.families.items()
        if _differences(factors, laws.of(family))
    )
    text = (
        f"LAWS = Laws(families={{{families}}}, {_scalars(laws)})\n"
        f"IK_LAWS = replace(LAWS, families=LAWS.families | {{{others}}}, {_scalars(ik)})\n"
    )
    between = re.compile(r"(# fitted: begin[^\n]*\n).*?(# fitted: end)", re.DOTALL)
    before = TARGET.read_text(encoding="utf-8")
    TARGET.write_text(between.sub(lambda match: match[1] + text + match[2], before), encoding="utf-8")


def _call(name: str, factors: Factors) -> str:
    return f"{name}({', '.join(f'{f.name}={_short(getattr(factors, f.name))}' for f in fields(factors))})"


def _differences(factors: Factors, base: Factors) -> str:
    values = ((f.name, _short(getattr(factors, f.name)), _short(getattr(base, f.name))) for f in fields(base))
    return ", ".join(f"{name}={value}" for name, value, usual in values if value != usual)


def _scalars(laws: Laws) -> str:
    values = ", ".join(f"{f.name}={getattr(laws.bands, f.name):.2f}" for f in fields(Bands))
    names = ("second_socket", "few_rows", "head_time")
    numbers = ", ".join(f"{name}={_short(getattr(laws, name))}" for name in names)
    return f"{numbers}, bands=Bands({values}),"


def as_written(laws: Laws) -> Laws:
    """Return the laws with the digits that factors.py has."""
    return replace(
        laws,
        families={
            family: Factors(**{f.name: float(_short(getattr(factors, f.name))) for f in fields(Factors)})
            for family, factors in laws.families.items()
        },
        second_socket=float(_short(laws.second_socket)),
        few_rows=float(_short(laws.few_rows)),
        head_time=float(_short(laws.head_time)),
    )


def _short(value: float) -> str:
    return f"{value:.3g}"


if __name__ == "__main__":
    main()
