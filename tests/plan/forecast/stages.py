"""A card and a host as the stages of a forecast, and laws with round numbers."""

from __future__ import annotations

from launcher.plan.forecast.decode import Stage
from launcher.plan.forecast.factors import LAWS, Factors, Laws
from launcher.plan.forecast.processors import GB, Processor, ProcessorFamily

CARD = Processor(name="CUDA0", family=ProcessorFamily.CUDA, bandwidth=1000 * GB, flops=100e12, link=25 * GB)
HOST = Processor(name="host", family=ProcessorFamily.HOST, bandwidth=80 * GB, flops=1e12, cores=16)

ROUND = Laws(
    families={
        family: Factors(
            weights=0.7,
            cache=0.5,
            latent_cache=0.16,
            layer_s=60e-6,
            products=0.1,
            attention=0.2,
            value_s=1e-9,
        )
        for family in ProcessorFamily
    },
    second_socket=0.35,
    bands=LAWS.bands,
    few_rows=0.0,
    head_time=1.0,
)


def stage(processor: Processor, read: float, *, streamed: float = 0.0) -> Stage:
    return Stage(
        processor=processor,
        n_layers=40,
        read_bytes=read,
        held_bytes=read * 10,
        flops=read * 4,
        kv_bytes=50_000,
        streamed_bytes=streamed,
    )
