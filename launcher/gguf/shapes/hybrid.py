"""Shapes with three blocks of gated delta net before each block of attention."""

# src/models/qwen35.cpp and qwen35moe.cpp, llama.cpp 0c1e570

from __future__ import annotations

from launcher.gguf.shapes.dimensions import Dimensions, Shape
from launcher.gguf.shapes.parts import (
    add_attention,
    add_experts,
    add_mlp,
    add_norms,
    add_vocabulary,
    start,
)

_INTERVAL = 4
_STATE = 128  # width of a head of the delta net
_KERNEL = 4


def qwen35(dims: Dimensions) -> Shape:
    """Build qwen35 and qwen35moe."""
    shape = start(dims)
    heads, groups = dims["delta_value_heads"], dims["delta_key_heads"]
    shape.set(
        full_attention_interval=_INTERVAL,
        ssm__conv_kernel=_KERNEL,
        ssm__state_size=_STATE,
        ssm__group_count=groups,
        ssm__time_step_rank=heads,
        ssm__inner_size=heads * _STATE,
        rope__dimension_count=dims["rope_dims"],
        rope__dimension_sections=(11, 11, 10, 0),
    )
    add_vocabulary(shape, dims)
    add_norms(shape, dims, "attn_norm", "post_attention_norm")
    for block in range(dims["blocks"]):
        if (block + 1) % _INTERVAL == 0:
            add_attention(shape, dims, first=block, last=block, gated=True)
        else:
            _add_delta_net(shape, dims, block)
    if "moe" not in dims.architecture:
        add_mlp(shape, dims)
        return shape
    shape.set(expert_shared_feed_forward_length=dims["expert_feed_forward"])
    add_experts(shape, dims)
    shape.blocks(0, dims["blocks"] - 1, ffn_gate_inp_shexp=(dims["embedding"],))
    return shape


def _add_delta_net(shape: Shape, dims: Dimensions, block: int) -> None:
    width, heads = dims["embedding"], dims["delta_value_heads"]
    inner = heads * _STATE
    mixed = 2 * dims["delta_key_heads"] * _STATE + inner
    shape.blocks(
        block,
        block,
        attn_qkv=(width, mixed),
        attn_gate=(width, inner),
        ssm_conv1d=(_KERNEL, mixed),
        ssm_dt__bias=(heads,),
        ssm_beta=(width, heads),
        ssm_alpha=(width, heads),
        ssm_norm=(_STATE,),
        ssm_out=(inner, width),
    )
    shape.tensor(f"blk.{block}.ssm_a", heads)
