"""Ends of vLLM 0.32: the log of one that was watched, and messages as its source has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.engine.log.cause import CauseKind
from launcher.engine.log.diagnose import diagnose
from launcher.engine.log.vllm_log import diagnose_vllm

CAPTURES = Path(__file__).parents[2] / "captures" / "vllm"
BEGIN = "(APIServer pid=7) INFO 12-01 03:09:46 [api_utils.py:347] vLLM\n"


def test_the_first_error_is_the_cause_and_not_those_that_follow() -> None:
    cause = diagnose((CAPTURES / "missing_tensor.log").read_text(), 1)
    assert cause.sentence == "vLLM ended: KeyError: 'layers.1.mlp.gate.e_score_correction_bias'"


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        (
            "ValueError: Free memory on device cuda:0 (30.1/139.8 GiB) on startup is less than desired GPU memory",
            CauseKind.OUT_OF_MEMORY,
            "30.1 of 139.8 GiB free on cuda:0",
        ),
        (
            "max seq len (9), (17.16 GiB KV cache is needed, which is larger than the available KV cache memory (4.2 GiB)",
            CauseKind.OUT_OF_MEMORY,
            "has 4.2 GiB left for its cache, and a context of 9 tokens takes 17.16 GiB",
        ),
        (
            "ValueError: No available memory for the cache blocks. Try",
            CauseKind.OUT_OF_MEMORY,
            "no memory left",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 786.00 MiB. GPU 0 has",
            CauseKind.OUT_OF_MEMORY,
            "could not allocate 786.00 MiB",
        ),
        ("OSError: [Errno 98] error while attempting: address already in use", CauseKind.PORT_IN_USE, "port"),
        ("ValueError: something else", CauseKind.OTHER, "vLLM ended: ValueError: something else"),
    ],
)
def test_messages_of_its_source_are_known(line: str, kind: CauseKind, words: str) -> None:
    cause = diagnose(f"{BEGIN}{line}\n", 1)
    assert cause.kind is kind
    assert words in cause.sentence


def test_an_engine_killed_from_outside_is_said_to_have_ended() -> None:
    log = (CAPTURES / "engine_killed.log").read_text()
    assert diagnose(log, 0).sentence == "one of vLLM's processes ended, and vLLM with it"


def test_what_nothing_in_the_log_tells_names_vllm() -> None:
    assert diagnose(BEGIN, -9).sentence.startswith("vLLM was killed by signal 9")
    assert diagnose("llama", -9).sentence.startswith("llama-server was killed by signal 9")


def test_other_programs_logs_are_left_alone_and_hostile_ones_end() -> None:
    assert diagnose_vllm("ValueError: No available memory for the cache blocks") is None
    assert diagnose_vllm(BEGIN) is None
    for text in (
        "(Worker" * 200_000,
        "(EngineCore pid=1) ERROR [" + "] aError" * 200_000,
        "max seq len (" * 200_000,
    ):
        assert diagnose_vllm(BEGIN + text) is None
