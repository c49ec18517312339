"""Questions and answers survive the pipe to a worker unchanged."""

from __future__ import annotations

import json

from launcher.machine.machine import Backend, Device, Link
from launcher.plan.amounts import HOST
from launcher.plan.modes import CacheType, FlashAttention, LoadMode, SplitMode, TensorOverride
from launcher.plan.oracle import Answer, BufferRow, HostTensor, Question
from launcher.simulate.wire import answer_from, question_from, to_json

DEVICE = Device(
    id="CUDA0",
    backend=Backend.CUDA,
    name="A100",
    total_bytes=80 << 30,
    free_bytes=None,
    link=Link(pcie_generation=4, pcie_width=16),
)


def test_a_question() -> None:
    question = Question(
        model="m.gguf",
        devices=(DEVICE,),
        ctx_size=4096,
        cache_type_k=CacheType.Q8_0,
        flash_attn=FlashAttention.ON,
        overrides=(TensorOverride(pattern="exps", where=HOST),),
        tensor_split=(1.0, 2.0),
        split_mode=SplitMode.NONE,
        load_mode=LoadMode.MMAP,
        n_outputs=0,
    )

    assert question_from(json.loads(json.dumps(to_json(question)))) == question


def test_an_answer() -> None:
    row = BufferRow(
        where="CUDA0",
        buffer_type="CUDA0",
        weights_bytes=1,
        kv_bytes=2,
        recurrent_bytes=3,
        compute_bytes=4,
        output_bytes=5,
    )
    answer = Answer(
        rows=(row,),
        slot_ctx_size=4096,
        flash_attn=True,
        sched_copies=1,
        graph_splits=(3, 2),
        host_tensors=(HostTensor(name="a", reason="b"),),
        engine="llama.cpp x",
    )

    assert answer_from(json.loads(json.dumps(to_json(answer)))) == answer
