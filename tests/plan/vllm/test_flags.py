"""vLLM's own flags: one gate, and no flag whose memory nobody knows."""

from __future__ import annotations

from fractions import Fraction

import pytest

from launcher.errors import UsageError
from launcher.plan.vllm.flags import read_flags
from launcher.plan.vllm.plan import VllmRequest


def test_what_a_plan_is_made_with_is_read_and_the_rest_passed_on() -> None:
    flags = ["-tp", "4", "--pipeline_parallel_size=2", "--enforce-eager", "--tool-call-parser", "kimi_k2"]
    request, passed = read_flags(
        [*flags, "--gpu-memory-utilization", "0.9", "--max-model-len=4096"], VllmRequest()
    )
    assert request == VllmRequest(tp=4, pp=2, ctx_size=4096, utilisation=Fraction(9, 10))
    assert passed == ("--enforce-eager", "--tool-call-parser", "kimi_k2")


@pytest.mark.parametrize(
    "flags",
    [
        ["--api-key", "secret"],
        ["--host", "0.0.0.0"],
        ["--max-num-batched-tokens", "65536"],
        ["--speculative-config", "{}"],
        ["--revision", "v2"],  # its files are others than those that were counted
        ["--load-format", "pt"],
        ["-tp"],
        ["-tp", "0"],
        ["-tp", "٣"],
        ["-tp", "9999999999999999999999"],
        ["--gpu-memory-utilization", "1.5"],
        ["--gpu-memory-utilization", "nan"],
        ["--gpu-memory-utilization", "0"],
        ["--trust-remote-code", "yes"],
        ["--seed"],
        ["word"],
    ],
)
def test_other_flags_and_values_are_refused(flags: list[str]) -> None:
    with pytest.raises(UsageError):
        read_flags(flags, VllmRequest())
