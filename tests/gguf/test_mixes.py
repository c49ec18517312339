"""Types by a quant's label."""

from __future__ import annotations

import pytest

from launcher.gguf.ggml import GgmlType
from launcher.gguf.mixes import is_uniform, mix_labels, mix_rules
from launcher.gguf.synthesis import TensorFamily, assign_types, raise_types

FAMILIES = (
    TensorFamily(name="token_embd.weight", shape=(1024, 1000)),
    TensorFamily(name="output_norm.weight", shape=(1024,)),
    TensorFamily(name="blk.{}.attn_q.weight", shape=(1024, 1024), first=0, last=3),
    TensorFamily(name="blk.{}.attn_q.bias", shape=(1024,), first=0, last=3),
    TensorFamily(name="blk.{}.ffn_gate_inp.weight", shape=(1024, 8), first=0, last=3),
    TensorFamily(name="blk.{}.ffn_down_exps.weight", shape=(512, 1024, 8), first=0, last=3),
)


@pytest.mark.parametrize("label", mix_labels())
def test_every_label_types_every_tensor_and_keeps_the_small_ones(label):
    types = {tensor.name: tensor.type for tensor in assign_types(FAMILIES, mix_rules(label))}
    assert types["output_norm.weight"] is GgmlType.F32
    assert types["blk.0.attn_q.bias"] is GgmlType.F32
    assert types["blk.0.ffn_gate_inp.weight"] is GgmlType.F32
    assert types["blk.3.ffn_down_exps.weight"] is not GgmlType.F32


@pytest.mark.parametrize("label", [label for label in mix_labels() if is_uniform(label)])
def test_a_uniform_label_leaves_no_choice(label):
    assert all(len(rule.types) == 1 for rule in mix_rules(label))


@pytest.mark.parametrize("label", [label for label in mix_labels() if not is_uniform(label)])
def test_a_mixed_label_grows_with_the_file(label):
    rules = mix_rules(label)
    tensors = assign_types(FAMILIES, rules)
    smallest = sum(tensor.size_bytes for tensor in tensors)
    grown = sum(tensor.size_bytes for tensor in raise_types(tensors, rules, smallest * 102 // 100))
    assert smallest <= grown <= smallest * 1.02
    largest = sum(tensor.size_bytes for tensor in raise_types(tensors, rules, smallest * 10))
    assert largest > smallest
