"""The shape of gemma4 without per-layer embeddings: the 26B and the 31B."""

# src/models/gemma4.cpp, llama.cpp 0c1e570

from __future__ import annotations

from launcher.gguf.shapes.dimensions import Dimensions, Shape
from launcher.gguf.shapes.parts import add_vocabulary, start

_INTERVAL = 6  # five sliding blocks, then a full one


def gemma4(dims: Dimensions) -> Shape:
    """Build gemma4: full blocks have wider heads, fewer of keys, and no tensor of values."""
    blocks = dims["blocks"]
    slides = [(block + 1) % _INTERVAL != 0 for block in range(blocks)]
    wide, narrow = dims["head_dim"], dims["sliding_head_dim"]
    shape = start(dims)
    shape.set(
        attention__head_count_kv=tuple(
            dims["sliding_kv_heads"] if sliding else dims["kv_heads"] for sliding in slides
        ),
        attention__key_length_swa=narrow,
        attention__value_length_swa=narrow,
        attention__sliding_window=dims["sliding_window"],
        attention__sliding_window_pattern=tuple(slides),
        attention__shared_kv_layers=0,
        embedding_length_per_layer_input=0,
        final_logit_softcapping=30.0,
        rope__freq_base_swa=10_000.0,
        rope__dimension_count=wide,
        rope__dimension_count_swa=narrow,
    )
    add_vocabulary(shape, dims)
    shape.tensor("rope_freqs.weight", wide // 2)
    for block, sliding in enumerate(slides):
        _add_block(shape, dims, block, sliding=sliding)
    return shape


def _add_block(shape: Shape, dims: Dimensions, block: int, *, sliding: bool) -> None:
    width, inner = dims["embedding"], dims["feed_forward"]
    head = dims["sliding_head_dim"] if sliding else dims["head_dim"]
    keys = head * (dims["sliding_kv_heads"] if sliding else dims["kv_heads"])
    query = head * dims["heads"]
    shape.blocks(
        block,
        block,
        attn_norm=(width,),
        attn_q=(width, query),
        attn_k=(width, keys),
        attn_output=(query, width),
        attn_q_norm=(head,),
        attn_k_norm=(head,),
        post_attention_norm=(width,),
        layer_output_scale=(1,),
        ffn_norm=(width,),
        ffn_gate=(width, inner),
        ffn_up=(width, inner),
        ffn_down=(inner, width),
        post_ffw_norm=(width,),
    )
    if sliding:
        shape.blocks(block, block, attn_v=(width, keys))
    if dims.has("experts"):
        _add_experts(shape, dims, block)


def _add_experts(shape: Shape, dims: Dimensions, block: int) -> None:
    # beside the dense network, gate and up in one tensor
    width, inner, count = dims["embedding"], dims["expert_feed_forward"], dims["experts"]
    if block == 0:
        shape.set(
            expert_count=count, expert_used_count=dims["experts_used"], expert_feed_forward_length=inner
        )
    shape.blocks(
        block,
        block,
        ffn_gate_inp=(width, count),
        ffn_gate_inp__scale=(width,),
        pre_ffw_norm_2=(width,),
        post_ffw_norm_1=(width,),
        post_ffw_norm_2=(width,),
        ffn_gate_up_exps=(width, 2 * inner, count),
        ffn_down_exps=(inner, width, count),
        ffn_down_exps__scale=(count,),
    )
