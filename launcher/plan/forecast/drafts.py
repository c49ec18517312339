"""Predict what drafting several tokens at once does to the speed of generation. Pure.

A round drafts n tokens one after the other, then checks them all in one pass: that reads dense weights and
caches once, and of routed experts those that any of the tokens uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.plan.forecast.decode import Stage, compute_seconds, token_seconds
from launcher.plan.forecast.processors import ProcessorFamily

# Nobody knows it before the model has answered: it depends on what is written. Stated with every figure.
USUAL_ACCEPTANCE = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """How many tokens are drafted at once, and the part of them that is right."""

    n_tokens: int
    acceptance: float = USUAL_ACCEPTANCE

    @property
    def expected_tokens(self) -> float:
        """Tokens that a round yields: each draft counts only if all before it were right."""
        return sum(self.acceptance**count for count in range(self.n_tokens + 1))


def drafted_rate(stages: Sequence[Stage], drafter: Sequence[Stage], depth: int, drafting: Drafting) -> float:
    """Return tokens/s with drafts of `drafter`; `stages` are the model's for one token."""
    n_checked = drafting.n_tokens + 1
    check = token_seconds([_of_batch(stage, n_checked) for stage in stages], depth)
    # All at once: on a host the arithmetic is paid for each token, memory is read once.
    check += sum(
        compute_seconds(stage) * drafting.n_tokens
        for stage in stages
        if stage.processor.family is ProcessorFamily.HOST
    )
    # Once more to read the tokens that were checked into its own cache.
    draft = token_seconds(drafter, depth) * (drafting.n_tokens + 1)
    return drafting.expected_tokens / (check + draft)


def _of_batch(stage: Stage, n_tokens: int) -> Stage:
    """Return the stage with the weights that a batch of tokens reads."""
    if stage.expert_share >= 1.0:
        return stage
    experts = (stage.held_bytes - stage.read_bytes) / (1.0 - stage.expert_share)
    dense = stage.held_bytes - experts
    reached = 1.0 - (1.0 - stage.expert_share) ** n_tokens
    return replace(stage, read_bytes=dense + experts * reached)
