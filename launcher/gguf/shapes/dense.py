"""Shapes without experts."""

from __future__ import annotations

from launcher.gguf.shapes.dimensions import Dimensions, Shape
from launcher.gguf.shapes.parts import (
    add_attention,
    add_mlp,
    add_norms,
    add_rope_factors,
    add_vocabulary,
    start,
    start_any,
)


def llama(dims: Dimensions) -> Shape:
    """Build llama: Llama 3 and Mistral."""
    shape = start(dims)
    shape.set(rope__dimension_count=dims["head_dim"])
    add_vocabulary(shape, dims)
    add_rope_factors(shape, dims)
    return _gated(shape, dims, "attn_norm", "ffn_norm")


def qwen(dims: Dimensions) -> Shape:
    """Build qwen2 and qwen3, embedding models among them."""
    shape = start(dims)
    add_vocabulary(shape, dims)
    return _gated(shape, dims, "attn_norm", "ffn_norm")


def qwen3vl(dims: Dimensions) -> Shape:
    """Build the text half of qwen3vl."""
    shape = start(dims)
    # three blocks take the image's features again; sections of the head for time, height and width
    shape.set(n_deepstack_layers=3, rope__dimension_sections=(24, 20, 20, 0))
    add_vocabulary(shape, dims)
    return _gated(shape, dims, "attn_norm", "ffn_norm")


def gemma3(dims: Dimensions) -> Shape:
    """Build gemma3: five sliding blocks, then a full one."""
    shape = start(dims)
    shape.set(attention__sliding_window=dims["sliding_window"])
    add_vocabulary(shape, dims)
    return _gated(shape, dims, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")


def phi3(dims: Dimensions) -> Shape:
    """Build phi3: query, key and value in one tensor, gate and up in one."""
    shape = start(dims)
    width, head, last = dims["embedding"], dims["head_dim"], dims["blocks"] - 1
    rotated = dims.get("rope_dims", head)
    shape.set(
        rope__dimension_count=rotated,
        rope__scaling__original_context_length=dims.get("original_context", dims["context"]),
    )
    add_vocabulary(shape, dims)
    if dims.has("rope_factors"):
        shape.tensor("rope_factors_long.weight", rotated // 2)
        shape.tensor("rope_factors_short.weight", rotated // 2)
    add_norms(shape, dims, "attn_norm", "ffn_norm")
    query = dims["heads"] * head
    shape.blocks(
        0,
        last,
        attn_qkv=(width, query + 2 * dims["kv_heads"] * head),
        attn_output=(query, width),
        ffn_up=(width, 2 * dims["feed_forward"]),
        ffn_down=(dims["feed_forward"], width),
    )
    return shape


def bert(dims: Dimensions) -> Shape:
    """Build bert: an encoder, with a classifier if it reranks."""
    shape = start_any(dims)
    width, inner, last = dims["embedding"], dims["feed_forward"], dims["blocks"] - 1
    shape.set(
        attention__layer_norm_epsilon=1e-5,  # changes no size
        attention__causal=False,
        pooling_type=dims["pooling"],
    )
    # one type of token, as XLM-RoBERTa has; there is no key of its own for it
    shape.metadata["tokenizer.ggml.token_type_count"] = 1
    shape.tensor("token_embd.weight", width, dims["vocabulary"])
    shape.tensor("token_types.weight", width)
    shape.tensor("position_embd.weight", width, dims["context"])
    for kind in ("weight", "bias"):
        shape.tensor(f"token_embd_norm.{kind}", width)
    if dims.has("classifier"):
        shape.tensor("cls.weight", width, width)
        shape.tensor("cls.bias", width)
        shape.tensor("cls.output.weight", width)
        shape.tensor("cls.output.bias", 1)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        shape.blocks(0, last, **{name: (width, width), f"{name}__bias": (width,)})
    for name in ("attn_output_norm", "layer_output_norm"):
        shape.blocks(0, last, **{name: (width,), f"{name}__bias": (width,)})
    shape.blocks(0, last, ffn_up=(width, inner), ffn_up__bias=(inner,))
    shape.blocks(0, last, ffn_down=(inner, width), ffn_down__bias=(width,))
    return shape


def _gated(shape: Shape, dims: Dimensions, *norms: str) -> Shape:
    add_norms(shape, dims, *norms)
    add_attention(shape, dims)
    add_mlp(shape, dims)
    return shape
