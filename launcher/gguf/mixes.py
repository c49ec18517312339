"""Give a quant's tensors types by its label, as llama-quantize and the makers of dynamic quants mix them."""

# llama_tensor_get_type, src/llama-quant.cpp, llama.cpp 0c1e570: which kinds of tensors a label gives more
# bits. How many of them is not repeated here: `raise_types` raises as many as the file's size has room for.

from __future__ import annotations

from launcher.gguf.ggml import GgmlType as T
from launcher.gguf.synthesis import TypeRule

# Never quantised: norms, biases, routers, and the smallest tensors of a delta net.
_KEPT = (
    r"norm|bias|sinks|ffn_gate_inp|exp_probs|rope_f|ssm_(conv1d|dt|a$)|scale|token_types"
    r"|position_embd|^cls"
)
_GATES = r"ssm_(alpha|beta)"  # of a delta net: only llama-quantize's own Q8_0, Q6_K, … quantise them
_HALF = r"per_layer_model_proj"  # tensor_allows_quantization: "not too big so keep them as it is"
_LATENT = r"attn_[kv]_b\.weight"  # small, and kept at 8 bits by all makers looked at
_RISING = (
    T.IQ1_S, T.IQ1_M, T.IQ2_XXS, T.IQ2_XS, T.Q2_K, T.IQ3_XXS, T.Q3_K, T.IQ4_XS, T.Q4_K, T.Q5_K, T.Q6_K,
    T.Q8_0,
)  # fmt: skip

# The type of all tensors, of most tensors.
_UNIFORM = {"Q8_0": T.Q8_0, "Q6_K": T.Q6_K, "BF16": T.BF16, "F16": T.F16}
_RAISED = {
    "Q3_K_M": T.Q3_K, "Q4_0": T.Q4_0, "Q4_1": T.Q4_1, "Q4_K_S": T.Q4_K, "Q4_K_M": T.Q4_K, "Q5_K_M": T.Q5_K,
}  # fmt: skip
# Dynamic quants: the smallest type of the experts, or of a model without experts.
_DYNAMIC = {
    "TQ1_0": T.IQ1_S, "IQ1_M": T.IQ1_S, "IQ2_XXS": T.IQ1_M, "Q2_K_XL": T.IQ2_XXS, "IQ3_XXS": T.IQ2_XXS,
    "Q3_K_S": T.IQ2_XXS, "Q3_K_XL": T.IQ2_XXS, "Q4_K_S": T.IQ3_XXS, "Q4_K_M": T.IQ3_XXS, "Q4_K_XL": T.IQ3_XXS,
    "Q5_K_M": T.Q3_K, "Q5_K_XL": T.Q3_K, "Q6_K_XL": T.Q4_K, "Q8_K_XL": T.Q8_0, "IQ4_XS": T.IQ3_XXS,
}  # fmt: skip


def mix_labels() -> tuple[str, ...]:
    """Return the labels that a recipe may name."""
    dynamic = (f"UD-{label}" for label in _DYNAMIC)
    return (*_UNIFORM, *_RAISED, "MXFP4", "MXFP4_MOE", *dynamic)


def is_uniform(label: str) -> bool:
    """Return whether the label alone says every tensor's type."""
    return label in _UNIFORM or label == "MXFP4"  # of gpt-oss: experts as released, the rest Q8_0


def mix_rules(label: str) -> tuple[TypeRule, ...]:
    """Return the rules of a label that `mix_labels` lists."""
    always = (TypeRule(match=_KEPT, types=(T.F32,)), TypeRule(match=_HALF, types=(T.BF16,)))
    if label in _UNIFORM:
        return (*always, TypeRule(match=".", types=(_UNIFORM[label],)))
    kept = (*always, TypeRule(match=_GATES, types=(T.F32,)))
    latent = TypeRule(match=_LATENT, types=(T.Q8_0,))
    if label.startswith("MXFP4"):
        experts = TypeRule(match=r"_exps\.", types=(T.MXFP4,))
        rest = (T.Q8_0,) if label == "MXFP4" else (T.Q8_0, T.BF16)
        return (*kept, latent, experts, TypeRule(match=".", types=rest))
    if label.startswith("UD-"):
        first = _DYNAMIC[label.removeprefix("UD-")]
        ladder = _RISING[_RISING.index(first) :]
        most = T.BF16 if first is T.Q8_0 else T.Q8_0
        return (
            *kept,
            latent,
            TypeRule(match=r"_exps\.|blk.*ffn_", types=(*ladder, most)),
            TypeRule(match=".", types=(max(first, T.Q4_K, key=_RISING.index), T.Q5_K, T.Q6_K, T.Q8_0, most)),
        )
    small = _RAISED[label]
    return (
        *kept,
        latent,
        TypeRule(match=r"^output\.weight", types=(small, T.Q6_K)),
        TypeRule(match=r"attn_v|attn_qkv|ffn_down", types=(small, T.Q5_K, T.Q6_K)),
        TypeRule(match=r"^token_embd", types=(small, T.Q6_K)),
        TypeRule(match=r"attn|ssm|_shexp", types=(small, T.Q5_K, T.Q6_K, T.Q8_0)),
        TypeRule(match=".", types=(small, T.Q5_K, T.Q6_K, T.Q8_0)),
    )
