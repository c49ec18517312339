"""Write synthetic multimodal projectors (`--mmproj`): a vision transformer and what maps it to the text model's width.

Tensor names and shapes are what llama.cpp's tools/mtmd/clip.cpp loads for `gemma3` and `mlp` (LLaVA).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from launcher.gguf.ggml import GgmlType
from tests.builders import Tensor, build_header

N_BLOCK, N_EMBD, N_HEAD, N_FF = 4, 256, 4, 1024
PATCH, IMAGE = 14, 448


def make_projector(
    path: Path, *, n_text: int = 256, kind: str = "gemma3", n_block: int = N_BLOCK, image: int = IMAGE
) -> Path:
    """A hollow projector for a text model of width `n_text`; random weights are not needed to load it."""
    tensors = list(_tensors(kind, n_text, n_block, image))
    header = build_header(_metadata(kind, n_text, n_block, image), tensors)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(-(-tensor.size_bytes // 32) * 32 for tensor in tensors))
    return path


def projector_header(kind: str = "gemma3") -> bytes:
    """The header alone."""
    return build_header(_metadata(kind, 256, N_BLOCK, IMAGE), list(_tensors(kind, 256, N_BLOCK, IMAGE)))


def _metadata(kind: str, n_text: int, n_block: int, image: int) -> dict[str, object]:
    return {
        "general.architecture": "clip",
        "general.name": f"synthetic {kind}",
        "general.file_type": 1,
        "clip.has_vision_encoder": True,
        "clip.projector_type": kind,
        "clip.use_gelu": True,
        "clip.vision.image_size": image,
        "clip.vision.patch_size": PATCH,
        "clip.vision.embedding_length": N_EMBD,
        "clip.vision.feed_forward_length": N_FF,
        "clip.vision.block_count": n_block,
        "clip.vision.projection_dim": n_text,
        "clip.vision.attention.head_count": N_HEAD,
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
    }


def _tensors(kind: str, n_text: int, n_block: int, image: int) -> Iterator[Tensor]:
    yield Tensor("v.patch_embd.weight", (PATCH, PATCH, 3, N_EMBD), GgmlType.F16)
    yield Tensor("v.patch_embd.bias", (N_EMBD,))
    yield Tensor("v.position_embd.weight", (N_EMBD, (image // PATCH) ** 2))
    for block in range(n_block):
        for name, n_in, n_out in (
            ("attn_q", N_EMBD, N_EMBD),
            ("attn_k", N_EMBD, N_EMBD),
            ("attn_v", N_EMBD, N_EMBD),
            ("attn_out", N_EMBD, N_EMBD),
            ("ffn_up", N_EMBD, N_FF),
            ("ffn_down", N_FF, N_EMBD),
        ):
            yield Tensor(f"v.blk.{block}.{name}.weight", (n_in, n_out), GgmlType.F16)
            yield Tensor(f"v.blk.{block}.{name}.bias", (n_out,))
        for name in ("ln1", "ln2"):
            yield from _norm(f"v.blk.{block}.{name}")
    yield from _norm("v.post_ln")
    if kind == "gemma3":
        yield Tensor("mm.input_projection.weight", (n_text, N_EMBD), GgmlType.F16)
        yield Tensor("mm.soft_emb_norm.weight", (N_EMBD,))
    else:
        yield Tensor("mm.0.weight", (N_EMBD, n_text), GgmlType.F16)
        yield Tensor("mm.0.bias", (n_text,))
        yield Tensor("mm.2.weight", (n_text, n_text), GgmlType.F16)
        yield Tensor("mm.2.bias", (n_text,))


def _norm(prefix: str) -> Iterator[Tensor]:
    yield Tensor(f"{prefix}.weight", (N_EMBD,))
    yield Tensor(f"{prefix}.bias", (N_EMBD,))
