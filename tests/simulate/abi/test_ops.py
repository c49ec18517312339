"""ggml's predicates on tensors: sizes and contiguity."""

from __future__ import annotations

from launcher.simulate.abi.layout import TensorOffsets
from launcher.simulate.abi.ops import result_key
from tests.simulate.ops import F16, tensor


def test_a_view_spans_its_strides() -> None:
    whole = tensor(F16, 128, 16)
    half = type(whole)(type=F16, ne=(64, 16, 1, 1), nb=whole.nb)

    assert half.n_bytes == 15 * 256 + 128
    assert not half.is_contiguous()
    assert half.is_contiguous(free=1)
    assert half.has_contiguous_rows


def test_a_result_is_known_by_its_type_shape_and_parameters_alone() -> None:
    def head(at: int) -> bytes:
        changed = bytearray(TensorOffsets.HEAD_SIZE)
        changed[at] = 1
        return bytes(changed)

    plain = result_key(bytes(TensorOffsets.HEAD_SIZE))

    assert all(
        result_key(head(at)) == plain
        for at in (TensorOffsets.BUFFER, TensorOffsets.FLAGS, TensorOffsets.SRC, TensorOffsets.VIEW_SRC)
    )
    for at in (
        TensorOffsets.TYPE,
        TensorOffsets.NE,
        TensorOffsets.NB,
        TensorOffsets.OP,
        TensorOffsets.OP_PARAMS,
    ):
        assert result_key(head(at)) != plain
