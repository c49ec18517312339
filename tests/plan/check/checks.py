"""Verdicts on command lines, with simulators that answer from a list or not at all."""

from __future__ import annotations

from launcher.engine.flags.command_line import read_command
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST
from launcher.plan.check.check import Check, check_configuration
from launcher.plan.companions import NO_COMPANIONS, Companions, Draft, DraftRequest
from launcher.plan.oracle import Answer, BufferRow, FitQuestion, Fitted, HostTensor, Question, Refusal
from launcher.units import MIB
from tests.plan.shapes import cards, machine, model


class WithoutFit:
    """There is no engine that could run `--fit`."""

    def fit(self, question: FitQuestion) -> Fitted | Refusal:
        return Refusal(reason=f"no fit for {question.question.model}", model_refused=False, unavailable=True)


class Silent(WithoutFit):
    """A simulator that cannot run."""

    def simulate(self, question: Question) -> Answer | Refusal:
        return Refusal(reason=f"there is no engine for {question.model}", model_refused=False)


class Refuses(WithoutFit):
    def simulate(self, question: Question) -> Answer | Refusal:
        return Refusal(reason=f"llama.cpp test: {question.cache_type_v} will not do", model_refused=True)


class Says(WithoutFit):
    """Every place holds 10 MiB of weights, 20 of caches, and this much compute."""

    def __init__(self, compute_mib: dict[str, int]) -> None:
        self._compute = compute_mib

    def simulate(self, question: Question) -> Answer | Refusal:
        places = (*(device.id for device in question.devices), HOST)
        return Answer(
            rows=tuple(
                BufferRow(
                    where=place,
                    buffer_type=place,
                    weights_bytes=10 * MIB,
                    kv_bytes=15 * MIB,
                    recurrent_bytes=5 * MIB,
                    compute_bytes=self._compute.get(place, 1) * MIB,
                    output_bytes=0,
                )
                for place in places
            ),
            slot_ctx_size=question.ctx_size,
            flash_attn=True,
            sched_copies=1,
            graph_splits=(1, 1),
            host_tensors=(HostTensor(name="blk.0.x", reason="CUDA0 has no kernel for TQ1_0"),),
            engine="llama.cpp test",
        )


SILENT = Silent()


def verdict(
    line: str,
    box: Machine | None = None,
    *,
    name: str = "qwen3moe",
    oracle: Silent | Refuses | Says = SILENT,
    beside: Companions = NO_COMPANIONS,
) -> Check:
    configuration = read_command([f"llama-server {line}"]).configuration
    box = box or machine(*cards(2000, 2000))
    return check_configuration(configuration, model(name), box, oracle, "m.gguf", beside)


def draft(oracle: Silent | Refuses | Says, *devices: str) -> Companions:
    wish = DraftRequest(path="d.gguf", devices=devices or None)
    return Companions(
        draft=Draft(request=wish, model=model("llama"), path="d.gguf", oracle=oracle), n_draft=3
    )


def has_reason(found: Check, words: str) -> bool:
    return any(words in reason for reason in found.reasons)
