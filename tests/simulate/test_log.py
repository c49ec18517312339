"""llama.cpp's log, read from its own lines."""

from __future__ import annotations

import pytest

from launcher.simulate.log import LoadLog
from launcher.units import MIB

DEBUG, INFO, WARN, ERROR, CONTINUED = 1, 2, 3, 4, 5


def read(*lines: tuple[int, str]) -> LoadLog:
    log = LoadLog()
    for level, line in lines:
        log.add(level, line.encode() + b"\n", None)
    return log


def test_layers_and_the_devices_of_their_weights() -> None:
    log = read(
        (DEBUG, "load_tensors: layer   0 assigned to device CPU, is_swa = 0"),
        (DEBUG, "load_tensors: layer   1 assigned to device CUDA0, is_swa = 1"),
        (DEBUG, "load_tensors: layer   2 assigned to device CUDA1, is_swa = 0"),
    )

    names = ("blk.0.attn_q.weight", "blk.1.ffn_up.weight", "output.weight", "token_embd.weight")
    assert [log.layer_device(name) for name in names] == ["CPU", "CUDA0", "CUDA1", None]
    assert log.layer_device("token_embd.weight", is_output=True) == "CUDA1"


def test_buffers() -> None:
    log = read(
        (INFO, "llama_context: CUDA_Host  output buffer size =     0.62 MiB"),
        (INFO, "llama_memory_recurrent:      CUDA0 RS buffer size =     1.50 MiB"),
        (INFO, "llama_memory_recurrent:      CUDA0 RS buffer size =     0.50 MiB"),
        (INFO, "llama_context: n_outputs_max         = 4"),
    )

    assert log.output_bytes == {"CUDA_Host": round(0.62 * MIB)}
    assert log.recurrent_bytes == {"CUDA0": 2 * MIB}
    assert log.n_outputs_max == 4


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("resolve_fused_ops: Flash Attention enabled", True),
        ("resolve_fused_ops: Flash Attention not supported, set to disabled", False),
        ("llama_init_from_model: flash_attn is not compatible with Grok - forcing off", False),
        ("llama_context: flash_attn            = auto", None),
    ],
)
def test_flash_attention(line: str, expected: bool | None) -> None:
    assert read((INFO, line)).flash_attention is expected


def test_overridden_tensors() -> None:
    log = read((DEBUG, "tensor blk.3.ffn_up_exps.weight (9 MiB q4_0) buffer type overridden to CUDA_Host"))

    assert log.overridden == {"blk.3.ffn_up_exps.weight"}


def test_the_first_error_is_the_reason() -> None:
    log = read(
        (INFO, "llama_model_loader: loaded meta data"),
        (ERROR, "llama_model_load: error loading model: unknown model architecture: 'x'"),
        (ERROR, "llama_model_load_from_file_impl: failed to load model"),
    )

    assert log.error == "unknown model architecture: 'x'"


def test_a_continued_line_keeps_its_level() -> None:
    log = read((ERROR, "gguf_init: tensor 'a'"), (CONTINUED, " has no type"))

    assert log.errors == ["gguf_init: tensor 'a'", "has no type"]


def test_silence_is_said() -> None:
    assert read().error == "the model was refused without a reason"
