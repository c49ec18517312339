"""Say where a fit of the speed laws begins, and which of their factors it moves."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from launcher.plan.forecast.factors import Bands, Factors, Laws
from launcher.plan.forecast.processors import ProcessorFamily as Family

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
