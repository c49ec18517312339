"""Shapes of mixtures of experts."""

from __future__ import annotations

from launcher.gguf.shapes.dimensions import Dimensions, Shape
from launcher.gguf.shapes.parts import (
    add_attention,
    add_experts,
    add_mlp,
    add_norms,
    add_rope_factors,
    add_vocabulary,
    start,
    start_decoder,
    stretch_rope,
)

_SIGMOID = 2  # LLAMA_EXPERT_GATING_FUNC_TYPE_SIGMOID, src/llama-hparams.h


def qwen3moe(dims: Dimensions) -> Shape:
    """Build qwen3moe: experts in every block."""
    shape = start(dims)
    add_vocabulary(shape, dims)
    add_norms(shape, dims, "attn_norm", "ffn_norm")
    add_attention(shape, dims)
    add_experts(shape, dims)
    return shape


def gpt_oss(dims: Dimensions) -> Shape:
    """Build gpt-oss: biases, sinks, and every second block slides."""
    shape = start(dims)
    width, last = dims["embedding"], dims["blocks"] - 1
    inner, count = dims["expert_feed_forward"], dims["experts"]
    shape.set(attention__sliding_window=dims["sliding_window"])
    stretch_rope(shape, dims)
    add_vocabulary(shape, dims)
    add_norms(shape, dims, "attn_norm", "post_attention_norm")
    add_attention(shape, dims)
    add_experts(shape, dims)
    shape.blocks(
        0,
        last,
        attn_output__bias=(width,),
        attn_sinks=(dims["heads"],),
        ffn_gate_inp__bias=(count,),
        ffn_gate_exps__bias=(inner, count),
        ffn_up_exps__bias=(inner, count),
        ffn_down_exps__bias=(width, count),
    )
    return shape


def minimax_m2(dims: Dimensions) -> Shape:
    """Build minimax-m2: norms over all heads at once."""
    shape = start(dims)
    last, head = dims["blocks"] - 1, dims["head_dim"]
    shape.set(expert_gating_func=_SIGMOID, rope__dimension_count=dims["rope_dims"])
    add_vocabulary(shape, dims)
    add_norms(shape, dims, "attn_norm", "ffn_norm")
    add_attention(shape, dims)
    shape.blocks(
        0,
        last,
        attn_q_norm=(dims["heads"] * head,),
        attn_k_norm=(dims["kv_heads"] * head,),
        exp_probs_b__bias=(dims["experts"],),
    )
    add_experts(shape, dims)
    return shape


def llama4(dims: Dimensions) -> Shape:
    """Build llama4 with experts and a shared one in every block."""
    shape = start(dims)
    shape.set(
        interleave_moe_layer_step=1,
        attention__chunk_size=dims["chunk"],
        rope__dimension_count=dims["head_dim"],
    )
    add_vocabulary(shape, dims)
    add_rope_factors(shape, dims)
    add_norms(shape, dims, "attn_norm", "ffn_norm")
    add_attention(shape, dims)
    add_experts(shape, dims)
    return shape


def glm4moe(dims: Dimensions) -> Shape:
    """Build glm4moe; its last block predicts several tokens, and `blocks` counts it."""
    shape = start(dims)
    last, lead = dims["blocks"] - 1, dims["dense_blocks"]
    shape.set(
        expert_shared_count=dims["shared_experts"],
        leading_dense_block_count=lead,
        expert_gating_func=_SIGMOID,
        expert_weights_scale=1.0,  # changes no size
        expert_weights_norm=True,
        nextn_predict_layers=1,
        rope__dimension_count=dims["rope_dims"],
    )
    add_vocabulary(shape, dims)
    add_norms(shape, dims, "attn_norm", "post_attention_norm")
    add_attention(shape, dims)
    add_mlp(shape, dims, last=lead - 1)
    add_experts(shape, dims, first=lead)
    shape.blocks(lead, last, exp_probs_b__bias=(dims["experts"],))
    _add_prediction(shape, dims)
    return shape


def deepseek2(dims: Dimensions) -> Shape:
    """Build deepseek2: DeepSeek V3 and R1, Kimi K2, GLM 4.7 Flash."""
    # `head_dim` is the part of a query that is not rotated; keys and values are compressed
    shape = start_decoder(dims)
    last, lead = dims["blocks"] - 1, dims["dense_blocks"]
    _describe_latent(shape, dims)
    add_vocabulary(shape, dims)
    add_norms(shape, dims, "attn_norm", "ffn_norm")
    _add_latent_attention(shape, dims)
    add_mlp(shape, dims, last=lead - 1)
    add_experts(shape, dims, first=lead)
    shape.blocks(lead, last, exp_probs_b__bias=(dims["experts"],))
    return shape


def glm_dsa(dims: Dimensions) -> Shape:
    """Build glm-dsa: deepseek2 with an indexer that picks the tokens read, and a block that predicts."""
    shape = deepseek2(dims)
    width, last = dims["embedding"], dims["blocks"] - 1
    heads, head = dims["index_heads"], dims["index_dim"]
    shape.set(
        attention__indexer__head_count=heads,
        attention__indexer__key_length=head,
        attention__indexer__top_k=dims["index_tokens"],
        nextn_predict_layers=1,
    )
    shape.blocks(
        0,
        last,
        indexer__k_norm__weight=(head,),
        indexer__k_norm__bias=(head,),
        indexer__proj__weight=(width, heads),
        indexer__attn_k__weight=(width, head),
        indexer__attn_q_b__weight=(dims["q_rank"], heads * head),
    )
    _add_prediction(shape, dims)
    return shape


def _add_prediction(shape: Shape, dims: Dimensions) -> None:
    # in the last block; some files have its vocabulary again
    width, last, words = dims["embedding"], dims["blocks"] - 1, dims["vocabulary"]
    shape.blocks(
        last,
        last,
        nextn__eh_proj__weight=(2 * width, width),
        nextn__enorm__weight=(width,),
        nextn__hnorm__weight=(width,),
    )
    if dims.has("nextn_vocabulary"):
        shape.blocks(
            last,
            last,
            nextn__embed_tokens__weight=(width, words),
            nextn__shared_head_head__weight=(width, words),
        )


def _add_latent_attention(shape: Shape, dims: Dimensions) -> None:
    width, plain, rotated, heads = dims["embedding"], dims["head_dim"], dims["rope_dims"], dims["heads"]
    rank, query, value = dims["kv_rank"], dims["q_rank"], dims["value_dim"]
    shape.blocks(
        0,
        dims["blocks"] - 1,
        attn_q_a_norm=(query,),
        attn_kv_a_norm=(rank,),
        attn_q_a=(width, query),
        attn_q_b=(query, heads * (plain + rotated)),
        attn_kv_a_mqa=(width, rank + rotated),
        attn_k_b=(plain, rank, heads),
        attn_v_b=(rank, value, heads),
        attn_output=(heads * value, width),
    )


def _describe_latent(shape: Shape, dims: Dimensions) -> None:
    rank, rotated = dims["kv_rank"], dims["rope_dims"]
    shape.set(
        attention__head_count_kv=1,
        attention__q_lora_rank=dims["q_rank"],
        attention__kv_lora_rank=rank,
        attention__key_length=rank + rotated,
        attention__value_length=rank,
        attention__key_length_mla=dims["head_dim"] + rotated,
        attention__value_length_mla=dims["value_dim"],
        leading_dense_block_count=dims["dense_blocks"],
        expert_shared_count=dims["shared_experts"],
        expert_weights_scale=1.0,  # changes no size
        expert_weights_norm=True,
        expert_gating_func=_SIGMOID,
        rope__dimension_count=rotated,
    )
    if dims.has("original_context"):
        stretch_rope(shape, dims)
