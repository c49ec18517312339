"""Hold the factors of the speed laws, as scripts/fit-forecast fits them to public measurements. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.plan.forecast.processors import ProcessorFamily

# Bytes of quantised weights that a core multiplies in a second. The table cannot tell it from the share of
# the bandwidth: with 12 to 30 GB/s its rows are predicted equally well.
CORE_RATE = 24e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """The parts of the named figures that a family of processors reaches."""

    weights: float  # of the bandwidth, reading weights
    cache: float  # of the bandwidth, reading keys and values
    latent_cache: float  # of the bandwidth, reading MLA's latents
    layer_s: float  # seconds that a layer costs, for each token or batch
    products: float  # of the arithmetic, multiplying matrices with many rows
    attention: float  # of the arithmetic, in attention with heads of 128 values or more
    value_s: float  # seconds for each token, layer and value of the embedding, in prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """Factors up and down that held 85 of 100 rows of unseen rigs, or the least that is believed."""

    decode: float
    host_decode: float  # where the host computes a part
    prefill: float
    host_prefill: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Laws:
    """All that is fitted of one program."""

    families: dict[ProcessorFamily, Factors]
    second_socket: float  # what a second socket adds to the first: weights are not mirrored
    few_rows: float  # rows of an expert at which half of `products` is reached
    bands: Bands

    def of(self, family: ProcessorFamily) -> Factors:
        return self.families[family]


# fitted: begin (scripts/fit-forecast writes what lies between)
LAWS = Laws(
    families={
        ProcessorFamily.CUDA: Factors(
            weights=0.841,
            cache=0.784,
            latent_cache=0.16,
            layer_s=6.89e-05,
            products=0.21,
            attention=0.164,
            value_s=7.74e-10,
        ),
        ProcessorFamily.OLD_CUDA: Factors(
            weights=0.428,
            cache=0.4,
            latent_cache=0.12,
            layer_s=8e-05,
            products=0.3,
            attention=0.27,
            value_s=6.02e-10,
        ),
        ProcessorFamily.METAL: Factors(
            weights=0.774,
            cache=0.222,
            latent_cache=0.1,
            layer_s=0.000189,
            products=0.45,
            attention=0.285,
            value_s=9.45e-10,
        ),
        ProcessorFamily.OTHER_GPU: Factors(
            weights=0.571,
            cache=0.4,
            latent_cache=0.12,
            layer_s=0.000183,
            products=0.448,
            attention=0.166,
            value_s=6.02e-10,
        ),
        ProcessorFamily.HOST: Factors(
            weights=0.6,
            cache=0.219,
            latent_cache=0.04,
            layer_s=1.65e-05,
            products=0.951,
            attention=1.29,
            value_s=1e-12,
        ),
    },
    second_socket=0.0573,
    few_rows=15.6,
    bands=Bands(decode=1.30, host_decode=1.70, prefill=1.50, host_prefill=1.80),
)
IK_LAWS = Laws(
    families={
        ProcessorFamily.CUDA: Factors(
            weights=0.841,
            cache=0.784,
            latent_cache=0.16,
            layer_s=6.89e-05,
            products=0.571,
            attention=0.239,
            value_s=9.94e-10,
        ),
        ProcessorFamily.OLD_CUDA: Factors(
            weights=0.428,
            cache=0.4,
            latent_cache=0.12,
            layer_s=8e-05,
            products=0.3,
            attention=0.27,
            value_s=6.02e-10,
        ),
        ProcessorFamily.METAL: Factors(
            weights=0.774,
            cache=0.222,
            latent_cache=0.1,
            layer_s=0.000189,
            products=0.45,
            attention=0.285,
            value_s=9.45e-10,
        ),
        ProcessorFamily.OTHER_GPU: Factors(
            weights=0.571,
            cache=0.4,
            latent_cache=0.12,
            layer_s=0.000183,
            products=0.448,
            attention=0.166,
            value_s=6.02e-10,
        ),
        ProcessorFamily.HOST: Factors(
            weights=0.6,
            cache=0.219,
            latent_cache=0.04,
            layer_s=1.65e-05,
            products=2.46,
            attention=4.5,
            value_s=1e-12,
        ),
    },
    second_socket=0.0573,
    few_rows=16.4,
    bands=Bands(decode=1.70, host_decode=1.70, prefill=2.02, host_prefill=2.02),
)
# fitted: end
