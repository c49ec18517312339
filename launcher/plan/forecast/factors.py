"""Hold the factors of the speed laws, as scripts/fit-forecast fits them to public measurements. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from launcher.plan.forecast.processors import ProcessorFamily

# Bytes of quantised weights that a core multiplies in a second: Q4_0, Q4_1, Q4_K and MXFP4 give 12 to 22 GB/s
# on an EPYC 9004 (probe --measure). What it is moves no row of the table but those of two cores.
CORE_RATE = 16e9
# Seconds more for a layer that the host computes whole, for each token: some twenty operations of one row
# each, after every one of which the threads wait for each other. Measured with 1 and 2 cores, 90 to 200 us in
# models of 8 to 30 layers (rows L003 to L009 of tests/plan/forecast/speeds.csv); the large hosts of the table
# cannot tell it from the weights.
WHOLE_LAYER_S = 120e-6


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
    head_time: float  # of a core for a head's cached token, times the usual, where that was not measured
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
            layer_s=7.24e-05,
            products=0.221,
            attention=0.172,
            value_s=8.55e-10,
        ),
        ProcessorFamily.OLD_CUDA: Factors(
            weights=0.473,
            cache=0.4,
            latent_cache=0.12,
            layer_s=0.000108,
            products=0.3,
            attention=0.27,
            value_s=6.33e-10,
        ),
        ProcessorFamily.METAL: Factors(
            weights=0.774,
            cache=0.234,
            latent_cache=0.1,
            layer_s=0.000189,
            products=0.45,
            attention=0.271,
            value_s=8.55e-10,
        ),
        ProcessorFamily.OTHER_GPU: Factors(
            weights=0.6,
            cache=0.4,
            latent_cache=0.12,
            layer_s=0.000193,
            products=0.448,
            attention=0.158,
            value_s=6.33e-10,
        ),
        ProcessorFamily.HOST: Factors(
            weights=0.516,
            cache=0.389,
            latent_cache=0.642,
            layer_s=1.82e-05,
            products=0.905,
            attention=1.29,
            value_s=1e-12,
        ),
    },
    second_socket=0.0773,
    few_rows=14.8,
    head_time=1,
    bands=Bands(decode=1.30, host_decode=1.57, prefill=1.50, host_prefill=1.80),
)
IK_LAWS = replace(
    LAWS,
    families=LAWS.families
    | {
        ProcessorFamily.CUDA: replace(
            LAWS.of(ProcessorFamily.CUDA), products=0.423, attention=0.232, value_s=8.34e-10
        ),
        ProcessorFamily.HOST: replace(LAWS.of(ProcessorFamily.HOST), products=2.65, attention=4.39),
    },
    second_socket=0.0773,
    few_rows=19,
    head_time=0.509,
    bands=Bands(decode=1.57, host_decode=1.57, prefill=2.03, host_prefill=2.03),
)
# fitted: end
