"""ggml's predicates on tensors: sizes and contiguity."""

from __future__ import annotations

from tests.simulate.ops import F16, tensor


def test_a_view_spans_its_strides() -> None:
    whole = tensor(F16, 128, 16)
    half = type(whole)(type=F16, ne=(64, 16, 1, 1), nb=whole.nb)

    assert half.n_bytes == 15 * 256 + 128
    assert not half.is_contiguous()
    assert half.is_contiguous(free=1)
    assert half.has_contiguous_rows
