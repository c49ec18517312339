"""The shape of gemma4: dense, with experts, or with an embedding for every block (E2B and E4B)."""

# src/models/gemma4.cpp, llama.cpp 0c1e570

from __future__ import annotations

from launcher.gguf.shapes.dimensions import Dimensions, Shape
from launcher.gguf.shapes.parts import add_vocabulary, start

_INTERVAL = 6  # five sliding blocks, then a full one; in the E2B four


def gemma4(dims: Dimensions) -> Shape:
    """Build gemma4: full blocks have wider heads and other numbers of them than sliding ones."""
    blocks, interval = dims["blocks"], dims.get("interval", _INTERVAL)
    slides = [(block + 1) % max(interval, 1) != 0 for block in range(blocks)]
    wide, narrow = dims["head_dim"], dims["sliding_head_dim"]
    shape = start(dims)
    shape.set(
        feed_forward_length=tuple(_inner(dims, block) for block in range(blocks)),
        attention__head_count_kv=tuple(
            dims["sliding_kv_heads"] if sliding else dims["kv_heads"] for sliding in slides
        ),
        attention__key_length_swa=narrow,
        attention__value_length_swa=narrow,
        attention__sliding_window=dims["sliding_window"],
        attention__sliding_window_pattern=tuple(slides),
        attention__shared_kv_layers=dims.get("shared_kv_blocks", 0),
        embedding_length_per_layer_input=dims.get("block_embedding", 0),
        final_logit_softcapping=30.0,
        rope__freq_base_swa=10_000.0,
        rope__dimension_count=wide,
        rope__dimension_count_swa=narrow,
    )
    add_vocabulary(shape, dims)
    shape.tensor("rope_freqs.weight", wide // 2)
    if dims.has("block_embedding"):
        _add_block_embeddings(shape, dims)
    for block, sliding in enumerate(slides):
        _add_block(shape, dims, block, sliding=sliding)
    return shape


def _inner(dims: Dimensions, block: int) -> int:
    # use_double_wide_mlp: blocks that read another block's keys and values are twice as wide
    shares = block >= dims["blocks"] - dims.get("shared_kv_blocks", 0)
    return dims["feed_forward"] * (2 if shares and dims.has("double_wide") else 1)


def _add_block(shape: Shape, dims: Dimensions, block: int, *, sliding: bool) -> None:
    width, inner = dims["embedding"], _inner(dims, block)
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
    if sliding or dims.has("values_in_full"):  # else attention_k_eq_v: keys are the values too
        shape.blocks(block, block, attn_v=(width, keys))
    if dims.has("experts"):
        _add_experts(shape, dims, block)


def _add_block_embeddings(shape: Shape, dims: Dimensions) -> None:
    width, each, last = dims["embedding"], dims["block_embedding"], dims["blocks"] - 1
    shape.tensor("per_layer_token_embd.weight", each * dims["blocks"], dims["vocabulary"])
    shape.tensor("per_layer_model_proj.weight", width, each * dims["blocks"])
    shape.tensor("per_layer_proj_norm.weight", each)
    shape.blocks(0, last, inp_gate=(width, each), proj=(each, width), post_norm=(width,))


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
