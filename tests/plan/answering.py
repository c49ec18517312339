"""A simulator that answers from a list, for what is decided about its answers."""

from __future__ import annotations

from collections.abc import Callable

from launcher.plan.amounts import HOST
from launcher.plan.oracle import Answer, BufferRow, HostTensor, Question, Refusal
from launcher.units import MIB


class Oracle:
    """Answers each question with what `answer` makes of it, and remembers the questions."""

    def __init__(self, answer: Callable[[Question], Answer | Refusal]) -> None:
        self.questions: list[Question] = []
        self._answer = answer

    def simulate(self, question: Question) -> Answer | Refusal:
        self.questions.append(question)
        return self._answer(question)


def holding(
    compute_mib: dict[str, int], host_tensors: tuple[HostTensor, ...] = ()
) -> Callable[[Question], Answer]:
    """An answer whose rows hold one MiB of weights and this much compute."""

    def answer(question: Question) -> Answer:
        where = [device.id for device in question.devices] + [HOST]
        return Answer(
            rows=tuple(
                BufferRow(
                    where=each,
                    buffer_type=each,
                    weights_bytes=MIB,
                    kv_bytes=2 * MIB,
                    recurrent_bytes=0,
                    compute_bytes=compute_mib.get(each, 1) * MIB,
                    output_bytes=0,
                )
                for each in where
            ),
            slot_ctx_size=question.ctx_size,
            flash_attn=True,
            sched_copies=1,
            graph_splits=(1, 1),
            host_tensors=host_tensors,
            engine="llama.cpp test",
        )

    return answer
