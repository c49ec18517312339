"""Add the tensors and keys that most architectures share."""

# Names: src/llama-arch.cpp; shapes: the load_arch_tensors of each file in src/models, llama.cpp 0c1e570.

from __future__ import annotations

from launcher.gguf.shapes.dimensions import Dimensions, Shape


def start(dims: Dimensions) -> Shape:
    """Return a shape with what the metadata of every decoder with grouped attention says."""
    shape = start_decoder(dims)
    head = dims["head_dim"]
    shape.set(
        attention__head_count_kv=dims["kv_heads"],
        attention__key_length=head,
        attention__value_length=head,
    )
    return shape


def start_decoder(dims: Dimensions) -> Shape:
    """Return a shape with what every decoder's metadata says."""
    shape = start_any(dims)
    shape.set(
        attention__layer_norm_rms_epsilon=1e-6,  # changes no size
        rope__freq_base=float(dims.get("rope_base", 10_000)),
    )
    return shape


def start_any(dims: Dimensions) -> Shape:
    """Return a shape with what every model's metadata says."""
    shape = Shape(dims.architecture)
    shape.set(
        vocab_size=dims["vocabulary"],
        block_count=dims["blocks"],
        context_length=dims["context"],
        embedding_length=dims["embedding"],
        feed_forward_length=dims["feed_forward"],
        attention__head_count=dims["heads"],
    )
    # The vocabulary itself is left out: it takes no memory that is planned.
    shape.metadata["tokenizer.ggml.model"] = "no_vocab"
    return shape


def stretch_rope(shape: Shape, dims: Dimensions) -> None:
    """Say that YaRN stretches the context of the pretraining."""
    shape.set(
        rope__scaling__type="yarn",
        rope__scaling__factor=float(dims["context"] // dims["original_context"]),
        rope__scaling__original_context_length=dims["original_context"],
    )


def add_rope_factors(shape: Shape, dims: Dimensions) -> None:
    """Add the factors of rope's frequencies, where the model has some."""
    if dims.has("rope_factors"):
        shape.tensor("rope_freqs.weight", dims["head_dim"] // 2)


def add_vocabulary(shape: Shape, dims: Dimensions) -> None:
    """Add the embeddings and the output: one tensor if they are tied."""
    width, words = dims["embedding"], dims["vocabulary"]
    shape.tensor("token_embd.weight", width, words)
    shape.tensor("output_norm.weight", width)
    if not dims.has("tied"):
        shape.tensor("output.weight", width, words)


def add_norms(shape: Shape, dims: Dimensions, *names: str) -> None:
    """Add norms as wide as the embedding to every block."""
    width, last = dims["embedding"], dims["blocks"] - 1
    shape.blocks(0, last, **dict.fromkeys(names, (width,)))


def add_attention(
    shape: Shape, dims: Dimensions, *, first: int = 0, last: int | None = None, gated: bool = False
) -> None:
    """Add grouped attention; a gated query is twice as wide."""
    last = dims["blocks"] - 1 if last is None else last
    width, head = dims["embedding"], dims["head_dim"]
    query, keys = dims["heads"] * head, dims["kv_heads"] * head
    shape.blocks(
        first,
        last,
        attn_q=(width, query * (2 if gated else 1)),
        attn_k=(width, keys),
        attn_v=(width, keys),
        attn_output=(query, width),
    )
    if dims.has("qk_norm"):
        shape.blocks(first, last, attn_q_norm=(head,), attn_k_norm=(head,))
    if dims.has("qkv_bias"):
        shape.blocks(first, last, attn_q__bias=(query,), attn_k__bias=(keys,), attn_v__bias=(keys,))


def add_mlp(shape: Shape, dims: Dimensions, *, first: int = 0, last: int | None = None) -> None:
    """Add a gated feed-forward network."""
    last = dims["blocks"] - 1 if last is None else last
    width, inner = dims["embedding"], dims["feed_forward"]
    shape.blocks(first, last, ffn_gate=(width, inner), ffn_up=(width, inner), ffn_down=(inner, width))


def add_experts(shape: Shape, dims: Dimensions, *, first: int = 0, last: int | None = None) -> None:
    """Add a router, its experts, and shared experts if there are any."""
    last = dims["blocks"] - 1 if last is None else last
    width, inner, count = dims["embedding"], dims["expert_feed_forward"], dims["experts"]
    shape.set(
        expert_count=count,
        expert_used_count=dims["experts_used"],
        expert_feed_forward_length=inner,
    )
    shape.blocks(
        first,
        last,
        ffn_gate_inp=(width, count),
        ffn_gate_exps=(width, inner, count),
        ffn_up_exps=(width, inner, count),
        ffn_down_exps=(inner, width, count),
    )
    shared = inner * dims.get("shared_experts", 0)
    if shared:
        shape.blocks(
            first,
            last,
            ffn_gate_shexp=(width, shared),
            ffn_up_shexp=(width, shared),
            ffn_down_shexp=(shared, width),
        )
