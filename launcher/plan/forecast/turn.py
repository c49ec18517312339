"""Predict one turn of a conversation: its speeds and its duration, each with a band. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.machine.machine import format_device_ids
from launcher.plan.forecast.decode import Stage, token_seconds
from launcher.plan.forecast.factors import LAWS, Bands, Laws
from launcher.plan.forecast.prefill import Prompt, prompt_seconds
from launcher.plan.forecast.processors import Processor, ProcessorFamily
from launcher.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The tokens of one turn; a speed means nothing without them."""

    cached_tokens: int = 6144
    prompt_tokens: int = 2048  # new ones
    reply_tokens: int = 512

    @property
    def depth_of_reply(self) -> int:
        """Tokens that are cached in the middle of the reply."""
        return self.cached_tokens + self.prompt_tokens + self.reply_tokens // 2

    def within(self, ctx_size: int) -> Turn:
        """Shrink the turn in proportion if the context is too small for it."""
        total = self.cached_tokens + self.prompt_tokens + self.reply_tokens
        if total <= ctx_size:
            return self
        share = ctx_size / total
        return Turn(
            cached_tokens=int(self.cached_tokens * share),
            prompt_tokens=max(int(self.prompt_tokens * share), 1),
            reply_tokens=max(int(self.reply_tokens * share), 1),
        )

    def __str__(self) -> str:
        return (
            f"{self.prompt_tokens} new tokens after {self.cached_tokens} cached ones, "
            f"{self.reply_tokens} answered"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    low: float
    mid: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The speed of one request at a time."""

    turn: Turn
    decode: Band  # tokens/s
    prefill: Band  # tokens/s
    turn_seconds: Band
    assumptions: tuple[str, ...]
    measured: str | None = None  # the day on which this command line was measured; None: predicted


GUESS_BAND = 2.5  # a processor with guessed speeds
SEVERAL_BAND = 1.8  # several devices: no measured row has them, and what a hand-over costs is not known
PAGED_BAND = 2.0  # experts from a disk that was measured: which of them come again is the text's affair
GUESSED_DISK_BAND = 4.0  # a disk that was not: 0.25 to 4 GB/s is what NVMe drives give a page fault


def forecast_turn(
    stages: Sequence[Stage], turn: Turn, ubatch: int, *, at_depth: int | None = None, laws: Laws = LAWS
) -> Forecast:
    """Predict a turn on these processors, which compute one after the other.

    Tokens are generated at the middle of the reply, or at `at_depth`.
    """
    token = token_seconds(stages, turn.depth_of_reply if at_depth is None else at_depth, laws)
    prompt = prompt_seconds(
        stages, Prompt(n_tokens=turn.prompt_tokens, ubatch=ubatch, depth=turn.cached_tokens), laws
    )
    used = [stage.processor for stage in stages if stage.read_bytes]
    factor, prompt_factor = _band_factors(used, laws.bands, at_least=_paging_band(stages))
    seconds = prompt + turn.reply_tokens * token
    low = prompt / prompt_factor + turn.reply_tokens * token / factor
    return Forecast(
        turn=turn,
        decode=_rate(1 / token, factor),
        prefill=_rate(turn.prompt_tokens / prompt, prompt_factor),
        turn_seconds=Band(
            low=low, mid=seconds, high=prompt * prompt_factor + turn.reply_tokens * token * factor
        ),
        assumptions=(*_describe(used), *_describe_paging(stages)),
    )


def _paging_band(stages: Sequence[Stage]) -> float:
    paging = [stage.paging for stage in stages if stage.paging is not None]
    if not paging:
        return 1.0
    return PAGED_BAND if all(part.measured for part in paging) else GUESSED_DISK_BAND


def _band_factors(used: Sequence[Processor], bands: Bands, *, at_least: float) -> tuple[float, float]:
    """Return how far off generation and prompts may be: as far as the least known part allows."""
    on_host = any(processor.family is ProcessorFamily.HOST for processor in used)
    several = sum(processor.family is not ProcessorFamily.HOST for processor in used) > 1
    factor = max(
        at_least,
        bands.host_decode if on_host else bands.decode,
        SEVERAL_BAND if several else 1.0,
        1.0 if all(processor.known for processor in used) else GUESS_BAND,
    )
    return factor, max(factor, bands.host_prefill if on_host else bands.prefill)


def _describe(processors: Sequence[Processor]) -> tuple[str, ...]:
    """Say how fast each processor reads; those that are alike share a sentence."""
    names: dict[tuple[float, str], dict[str, None]] = {}
    for processor in processors:
        names.setdefault((processor.bandwidth, processor.source), {})[processor.name] = None
    return tuple(
        f"{format_device_ids(same)}: {rate / 1e9:.0f} GB/s{' each' * (len(same) > 1)}, {source}"
        for (rate, source), same in names.items()
    )


def _describe_paging(stages: Sequence[Stage]) -> tuple[str, ...]:
    """Say what is read from the disk, how fast, and where that figure is from."""
    return tuple(
        f"disk: {part.rate / 1e9:.2g} GB/s, {'measured' if part.measured else 'a guess'}; "
        f"{format_bytes(part.missing_bytes)} of {format_bytes(part.n_bytes)} of experts do not stay in RAM"
        for stage in stages
        if (part := stage.paging) is not None
    )


def _rate(value: float, factor: float) -> Band:
    return Band(low=value / factor, mid=value, high=value * factor)
