"""Estimate a projector's compute, and how far it grows while serving. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.gguf.header import Value
from launcher.gguf.model import ModelFile
from launcher.plan.amounts import Amount, Basis
from launcher.plan.modes import FlashAttention
from launcher.units import MIB

# llama-server reserves the graph of one warm-up image. A larger image, or several in one batch, takes more.
# Tokens of the warm-up image, and the most there can be in one encoding: set_warmup_n_tokens and
# set_limit_image_tokens (tools/mtmd/clip.cpp, load_hparams, at 0c1e570). internvl's tiles of 256 are
# batched up to batch_max_tokens (mtmd_batch_add_chunk), 1024.
_TOKENS: dict[str, tuple[int, int]] = {
    "pixtral": (256, 1024),
    "kimivl": (256, 1024),
    "gemma4v": (256, 1120),
    "gemma4uv": (256, 1120),
    "qwen2vl_merger": (46 * 46, 4096),
    "qwen2.5vl_merger": (46 * 46, 4096),
    "qwen3vl_merger": (46 * 46, 4096),
    "ling3vl": (46 * 46, 4096),
    "glm4v": (46 * 46, 4096),
    "minimax_m3": (256, 576),
    "muse-glimmer": (1024, 4096),
    "internvl": (256, 1024),
}
# Every image, or every tile, is encoded at the size of the warm-up image, one at a time.
_OF_ONE_SIZE = frozenset({"mlp", "gemma3", "gemma3nv", "llama4", "idefics3", "janus_pro", "lfm2"})
_LARGER = "; a larger image than the warm-up's takes more compute"
_UNKNOWN_COMPUTE = 512 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeGrowth:
    factor: float  # times the compute that is reserved at the start
    sentence: str


def compute_growth(model: ModelFile, image_max_tokens: int, flash_attn: FlashAttention) -> ComputeGrowth:
    """Return how far a projector's compute can grow; `image_max_tokens` -1 sets no limit."""
    # With the number of tokens, as simulated for ViT-L and SigLIP widths (four times the tokens: 3.0 to 4.0
    # times the compute); with its square where flash attention is off (6.2 times).
    kind = model.metadata.get("clip.vision.projector_type") or model.metadata.get("clip.projector_type")
    if kind in _OF_ONE_SIZE or not model.metadata.get("clip.has_vision_encoder"):
        return ComputeGrowth(factor=1.0, sentence="")
    warm_up, most = _TOKENS.get(str(kind), (0, 0))
    if not warm_up:
        return ComputeGrowth(factor=1.0, sentence=_LARGER)
    if image_max_tokens > 0 and kind != "internvl":
        most = image_max_tokens
    factor = max(most / warm_up, 1.0) ** (2 if flash_attn is FlashAttention.OFF else 1)
    if factor == 1.0:
        return ComputeGrowth(factor=1.0, sentence="")
    return ComputeGrowth(
        factor=factor,
        sentence=f"; counted with room for {most} image tokens, {factor:.1f} times the warm-up's compute",
    )


def estimate_compute(model: ModelFile, flash_attn: FlashAttention) -> Amount:
    """Estimate the compute for the image size in the header, with a band from nothing to twice that."""
    # A vision transformer's widest layer, in F32, for every patch, and the attention matrix where flash
    # attention is off. The simulator has 0.3 to 1.5 times the middle (54 cases: three widths, two
    # projectors, 256 to 4096 patches).
    about = {
        key: _number(model.metadata.get(f"clip.vision.{key}"))
        for key in (
            "image_size",
            "patch_size",
            "embedding_length",
            "feed_forward_length",
            "projection_dim",
            "attention.head_count",
        )
    }
    if not all(number for key, number in about.items() if key != "projection_dim"):
        return Amount(n_bytes=_UNKNOWN_COMPUTE, basis=Basis.ESTIMATED, band_bytes=_UNKNOWN_COMPUTE)
    n_patches = (about["image_size"] // about["patch_size"]) ** 2
    pixels = 3 * about["image_size"] ** 2
    width = 4 * about["embedding_length"] + max(about["feed_forward_length"], 2 * about["projection_dim"])
    n_bytes = 4 * (n_patches * width + pixels)
    if flash_attn is FlashAttention.OFF:
        n_bytes += 4 * about["attention.head_count"] * n_patches**2
    return Amount(n_bytes=n_bytes, basis=Basis.ESTIMATED, band_bytes=n_bytes)


def _number(value: Value | None) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
