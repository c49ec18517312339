from __future__ import annotations

import pytest

from launcher.gguf.tensor_names import TensorKind, block_of, kind_of


@pytest.mark.parametrize(
    ("name", "kind", "block"),
    [
        ("blk.3.ffn_gate_exps.weight", TensorKind.ROUTED_EXPERTS, 3),
        ("blk.3.ffn_gate_up_exps.weight", TensorKind.ROUTED_EXPERTS, 3),
        ("blk.3.ffn_down_chexps.weight", TensorKind.ROUTED_EXPERTS, 3),
        ("blk.0.ffn_up.7.weight", TensorKind.ROUTED_EXPERTS, 0),
        ("blk.3.ffn_down_exps.bias", TensorKind.REST, 3),
        ("blk.3.ffn_gate_inp.weight", TensorKind.REST, 3),
        ("blk.3.ffn_up_shexp.weight", TensorKind.SHARED_EXPERT, 3),
        ("blk.3.ffn_up.weight", TensorKind.DENSE_FFN, 3),
        ("blk.3.ffn_norm.weight", TensorKind.REST, 3),
        ("blk.3.attn_kv_a_mqa.weight", TensorKind.ATTENTION, 3),
        ("blk.3.attn_kv_a_norm.weight", TensorKind.REST, 3),
        ("blk.3.indexer.attn_q_b.weight", TensorKind.ATTENTION, 3),
        ("blk.3.ssm_conv1d.weight", TensorKind.RECURRENT, 3),
        ("blk.3.ssm_norm.weight", TensorKind.REST, 3),
        ("blk.3.time_mix_key.weight", TensorKind.RECURRENT, 3),
        ("blk.9.attn_q.weight", TensorKind.MTP, 9),
        ("dec.blk.1.cross_attn_q.weight", TensorKind.ATTENTION, 1),
        ("token_embd.weight", TensorKind.EMBEDDING, None),
        ("token_embd_norm.weight", TensorKind.REST, None),
        ("per_layer_token_embd.weight", TensorKind.EMBEDDING, None),
        ("output.weight", TensorKind.OUTPUT, None),
        ("output_norm.weight", TensorKind.REST, None),
        ("rope_freqs.weight", TensorKind.REST, None),
    ],
)
def test_a_tensors_name_says_what_it_is_for(name: str, kind: TensorKind, block: int | None) -> None:
    assert kind_of(name, n_main=9) is kind
    assert block_of(name) == block
