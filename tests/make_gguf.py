#!/usr/bin/env python3
"""Write synthetic GGUF models: small real ones (random weights), or hollow ones of true size (header only, sparse).

    python tests/make_gguf.py deepseek2 OUT.gguf --preset mini|kimi-k2.5 --expert-type Q4_0 --dense-type Q8_0
    python tests/make_gguf.py qwen3moe | llama | gemma3 | gemma4 OUT.gguf --hollow --splits 3 --vocabulary bpe

In tests: `make_gguf(path, "deepseek2", hollow=True)` writes files, `make_shards("deepseek2", …)` only their
headers. Tensor names and shapes are what llama.cpp's src/models/*.cpp of these architectures load.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import ValueType
from tests.builders import Tensor, Typed, build_header

Numbers = Mapping[str, int]

PRESETS: dict[str, dict[str, dict[str, int]]] = {
    "deepseek2": {
        "mini": {
            "n_block": 8, "n_embd": 1024, "n_ff": 2048, "n_head": 8, "q_lora": 512, "kv_lora": 512, "nope": 128,
            "rope": 64, "v": 128, "n_expert": 32, "n_used": 4, "n_shared": 1, "n_ff_exp": 512, "n_dense": 1,
            "n_vocab": 1024, "n_ctx": 8192,
        },
        "kimi-k2.5": {
            "n_block": 61, "n_embd": 7168, "n_ff": 18432, "n_head": 64, "q_lora": 1536, "kv_lora": 512, "nope": 128,
            "rope": 64, "v": 128, "n_expert": 384, "n_used": 8, "n_shared": 1, "n_ff_exp": 2048, "n_dense": 1,
            "n_vocab": 163840, "n_ctx": 262144,
        },
    },
    "qwen3moe": {
        "mini": {
            "n_block": 12, "n_embd": 1024, "n_head": 16, "n_head_kv": 4, "head": 128, "n_expert": 32, "n_used": 4,
            "n_ff": 3072, "n_ff_exp": 384, "n_vocab": 1024, "n_ctx": 8192,
        },
        "qwen3-235b": {
            "n_block": 94, "n_embd": 4096, "n_head": 64, "n_head_kv": 4, "head": 128, "n_expert": 128, "n_used": 8,
            "n_ff": 12288, "n_ff_exp": 1536, "n_vocab": 151936, "n_ctx": 262144,
        },
    },
    "llama": {
        "mini": {
            "n_block": 4, "n_embd": 256, "n_head": 8, "n_head_kv": 2, "head": 32, "n_ff": 768, "n_vocab": 512,
            "n_ctx": 4096,
        },
        "llama-3.3-70b": {
            "n_block": 80, "n_embd": 8192, "n_head": 64, "n_head_kv": 8, "head": 128, "n_ff": 28672,
            "n_vocab": 128256, "n_ctx": 131072,
        },
    },
    "gemma3": {
        "mini": {
            "n_block": 6, "n_embd": 256, "n_head": 4, "n_head_kv": 1, "head": 64, "n_ff": 512, "n_vocab": 512,
            "n_ctx": 8192, "n_swa": 512,
        },
        "gemma-3-27b": {
            "n_block": 62, "n_embd": 5376, "n_head": 32, "n_head_kv": 16, "head": 128, "n_ff": 21504,
            "n_vocab": 262144, "n_ctx": 131072, "n_swa": 1024,
        },
    },
    "gemma4": {
        "mini": {
            "n_block": 6, "n_embd": 256, "n_head": 4, "n_head_kv": 1, "head": 128, "head_swa": 64, "n_ff": 512,
            "n_vocab": 512, "n_ctx": 8192, "n_swa": 512, "per_layer": 64,
        },
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Types:
    """ggml types of the routed experts, of all other matrices, and of the embedding."""

    expert: GgmlType = GgmlType.Q4_0
    dense: GgmlType = GgmlType.Q8_0
    embedding: GgmlType = GgmlType.Q8_0


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeShard:
    """One file that could be written: its name, its header, its tensors and its true size."""

    name: str
    header: bytes
    tensors: tuple[Tensor, ...]
    size_bytes: int


def make_shards(
    architecture: str,
    *,
    preset: str = "mini",
    name: str = "model.gguf",
    types: Types | None = None,
    splits: int = 1,
    vocabulary: str = "spm",
    numbers: Numbers | None = None,
    metadata: Mapping[str, object] | None = None,
) -> tuple[MadeShard, ...]:
    """Headers and sizes without writing anything. `numbers` override the preset's, `metadata` add or replace keys."""
    p = PRESETS[architecture][preset] | dict(numbers or {})
    tensors = list(_TENSORS[architecture](p, types or Types()))
    pairs = {
        "general.architecture": architecture,
        "general.name": f"synthetic {architecture} {preset}",
        "general.file_type": 2,
        **{f"{architecture}.{key}": value for key, value in _METADATA[architecture](p).items()},
        **_VOCABULARIES[vocabulary](p["n_vocab"]),
        **(metadata or {}),
    }
    groups = _divide(tensors, splits)
    return tuple(
        _shard(name if len(groups) == 1 else _shard_file(name, index, len(groups)), header_pairs, group)
        for index, group in enumerate(groups)
        for header_pairs in [_split_pairs(pairs if index == 0 else {}, index, len(groups), len(tensors))]
    )


def _shard_file(name: str, index: int, count: int) -> str:
    return f"{name.removesuffix('.gguf')}-{index + 1:05d}-of-{count:05d}.gguf"


def _split_pairs(pairs: Mapping[str, object], index: int, count: int, n_tensors: int) -> dict[str, object]:
    if count == 1:
        return dict(pairs)
    return {
        **pairs,
        "split.no": Typed(ValueType.U16, index),
        "split.count": Typed(ValueType.U16, count),
        "split.tensors.count": Typed(ValueType.I32, n_tensors),
    }


def _shard(name: str, pairs: Mapping[str, object], tensors: list[Tensor]) -> MadeShard:
    header = build_header(pairs, tensors)
    size = len(header) + sum(_padded(tensor.size_bytes) for tensor in tensors)
    return MadeShard(name=name, header=header, tensors=tuple(tensors), size_bytes=size)


def make_gguf(
    path: Path,
    architecture: str,
    *,
    preset: str = "mini",
    types: Types | None = None,
    splits: int = 1,
    hollow: bool = False,
    vocabulary: str = "spm",
    numbers: Numbers | None = None,
    metadata: Mapping[str, object] | None = None,
) -> tuple[Path, ...]:
    """Write a model to `path`, or to shards named after it; hollow ones are sparse files of zeros."""
    shards = make_shards(
        architecture,
        preset=preset,
        name=path.name,
        types=types,
        splits=splits,
        vocabulary=vocabulary,
        numbers=numbers,
        metadata=metadata,
    )
    paths = tuple(path.with_name(shard.name) for shard in shards)
    for file_path, shard in zip(paths, shards, strict=True):
        with file_path.open("wb") as file:
            file.write(shard.header)
            if not hollow:
                _write_weights(file, shard.tensors)
            file.truncate(shard.size_bytes)
    return paths


def _padded(size: int) -> int:
    return -(-size // 32) * 32


def _divide(tensors: list[Tensor], splits: int) -> list[list[Tensor]]:
    """About equal bytes each, in order, as gguf-split does."""
    total = sum(tensor.size_bytes for tensor in tensors)
    groups: list[list[Tensor]] = [[]]
    done = 0
    for tensor in tensors:
        if len(groups) < splits and done >= total * len(groups) / splits:
            groups.append([])
        groups[-1].append(tensor)
        done += tensor.size_bytes
    return groups


def _write_weights(file: BinaryIO, tensors: tuple[Tensor, ...]) -> None:
    import gguf  # noqa: PLC0415 (hollow models need neither)
    import numpy as np  # noqa: PLC0415

    random = np.random.default_rng(0)
    for tensor in tensors:
        start = file.tell()
        if tensor.type == GgmlType.F32 and "norm" in str(tensor.name):
            file.write(np.ones(tensor.shape, np.float32).tobytes())
        else:
            rows, row = math.prod(tensor.shape[1:]), tensor.shape[0]
            step = max(1, (1 << 22) // row)
            for first in range(0, rows, step):
                weights = random.standard_normal((min(step, rows - first), row), dtype=np.float32) * 0.02
                kind = gguf.GGMLQuantizationType(tensor.type)
                file.write(gguf.quantize(weights, kind).tobytes())
        file.seek(start + _padded(tensor.size_bytes))


def _deepseek2(p: Numbers, types: Types) -> Iterator[Tensor]:
    yield from _outer(p, types, tied=False)
    embd, heads, kv = p["n_embd"], p["n_head"], p["kv_lora"]
    for block in range(p["n_block"]):
        b = f"blk.{block}."
        yield from _norms(b, attn_norm=embd, attn_q_a_norm=p["q_lora"], attn_kv_a_norm=kv, ffn_norm=embd)
        yield Tensor(b + "attn_q_a.weight", (embd, p["q_lora"]), types.dense)
        yield Tensor(b + "attn_q_b.weight", (p["q_lora"], heads * (p["nope"] + p["rope"])), types.dense)
        yield Tensor(b + "attn_kv_a_mqa.weight", (embd, kv + p["rope"]), types.dense)
        yield Tensor(b + "attn_k_b.weight", (p["nope"], kv, heads), GgmlType.Q8_0)
        yield Tensor(b + "attn_v_b.weight", (kv, p["v"], heads), GgmlType.Q8_0)
        yield Tensor(b + "attn_output.weight", (heads * p["v"], embd), types.dense)
        if block < p["n_dense"]:
            yield from _ffn(b, embd, p["n_ff"], types.dense)
        else:
            yield from _experts(b, p, types)
            yield Tensor(b + "exp_probs_b.bias", (p["n_expert"],))
            yield from _ffn(b, embd, p["n_ff_exp"] * p["n_shared"], types.dense, "_shexp")


def _qwen3moe(p: Numbers, types: Types) -> Iterator[Tensor]:
    yield from _outer(p, types, tied=False)
    for block in range(p["n_block"]):
        b = f"blk.{block}."
        yield from _norms(
            b, attn_norm=p["n_embd"], attn_q_norm=p["head"], attn_k_norm=p["head"], ffn_norm=p["n_embd"]
        )
        yield from _attention(b, p, types)
        yield from _experts(b, p, types)


def _llama(p: Numbers, types: Types) -> Iterator[Tensor]:
    yield from _outer(p, types, tied=False)
    for block in range(p["n_block"]):
        b = f"blk.{block}."
        yield from _norms(b, attn_norm=p["n_embd"], ffn_norm=p["n_embd"])
        yield from _attention(b, p, types)
        yield from _ffn(b, p["n_embd"], p["n_ff"], types.dense)


def _gemma3(p: Numbers, types: Types) -> Iterator[Tensor]:
    yield from _outer(p, types, tied=True)
    embd = p["n_embd"]
    for block in range(p["n_block"]):
        b = f"blk.{block}."
        yield from _norms(b, attn_norm=embd, attn_q_norm=p["head"], attn_k_norm=p["head"])
        yield from _norms(b, post_attention_norm=embd, ffn_norm=embd, post_ffw_norm=embd)
        yield from _attention(b, p, types)
        yield from _ffn(b, embd, p["n_ff"], types.dense)


def _gemma4(p: Numbers, types: Types) -> Iterator[Tensor]:
    yield from _outer(p, types, tied=True)
    embd, per_layer = p["n_embd"], p["per_layer"]
    yield Tensor("rope_freqs.weight", (p["head"] // 2,))
    yield Tensor("per_layer_token_embd.weight", (per_layer * p["n_block"], p["n_vocab"]), types.embedding)
    yield Tensor("per_layer_model_proj.weight", (embd, per_layer * p["n_block"]), types.dense)
    yield Tensor("per_layer_proj_norm.weight", (per_layer,))
    for block in range(p["n_block"]):
        b, head = f"blk.{block}.", p["head_swa"] if _slides(block) else p["head"]
        yield from _norms(b, attn_norm=embd, attn_q_norm=head, attn_k_norm=head)
        yield from _norms(b, post_attention_norm=embd, ffn_norm=embd, post_ffw_norm=embd)
        yield from _attention(b, {**p, "head": head}, types)
        yield from _ffn(b, embd, p["n_ff"], types.dense)
        yield Tensor(f"{b}inp_gate.weight", (embd, per_layer), types.dense)
        yield Tensor(f"{b}proj.weight", (per_layer, embd), types.dense)
        yield from _norms(b, post_norm=embd)


def _slides(block: int) -> bool:
    return (block + 1) % 6 != 0


def _outer(p: Numbers, types: Types, *, tied: bool) -> Iterator[Tensor]:
    yield Tensor("token_embd.weight", (p["n_embd"], p["n_vocab"]), types.embedding)
    yield Tensor("output_norm.weight", (p["n_embd"],))
    if not tied:
        yield Tensor("output.weight", (p["n_embd"], p["n_vocab"]), types.dense)


def _norms(prefix: str, **sizes: int) -> Iterator[Tensor]:
    for name, size in sizes.items():
        yield Tensor(f"{prefix}{name}.weight", (size,))


def _attention(prefix: str, p: Numbers, types: Types) -> Iterator[Tensor]:
    embd, queries, keys = p["n_embd"], p["n_head"] * p["head"], p["n_head_kv"] * p["head"]
    for name, shape in (
        ("q", (embd, queries)),
        ("k", (embd, keys)),
        ("v", (embd, keys)),
        ("output", (queries, embd)),
    ):
        yield Tensor(f"{prefix}attn_{name}.weight", shape, types.dense)


def _ffn(prefix: str, embd: int, n_ff: int, type_: GgmlType, ending: str = "") -> Iterator[Tensor]:
    yield Tensor(f"{prefix}ffn_gate{ending}.weight", (embd, n_ff), type_)
    yield Tensor(f"{prefix}ffn_up{ending}.weight", (embd, n_ff), type_)
    yield Tensor(f"{prefix}ffn_down{ending}.weight", (n_ff, embd), type_)


def _experts(prefix: str, p: Numbers, types: Types) -> Iterator[Tensor]:
    embd, n_ff, count = p["n_embd"], p["n_ff_exp"], p["n_expert"]
    yield Tensor(prefix + "ffn_gate_inp.weight", (embd, count))
    yield Tensor(prefix + "ffn_gate_exps.weight", (embd, n_ff, count), types.expert)
    yield Tensor(prefix + "ffn_up_exps.weight", (embd, n_ff, count), types.expert)
    yield Tensor(prefix + "ffn_down_exps.weight", (n_ff, embd, count), types.expert)


def _deepseek2_metadata(p: Numbers) -> dict[str, object]:
    return _common(p) | {
        "attention.head_count_kv": 1,
        "leading_dense_block_count": p["n_dense"],
        "attention.q_lora_rank": p["q_lora"],
        "attention.kv_lora_rank": p["kv_lora"],
        "attention.key_length": p["kv_lora"] + p["rope"],
        "attention.value_length": p["kv_lora"],
        "attention.key_length_mla": p["nope"] + p["rope"],
        "attention.value_length_mla": p["v"],
        "expert_feed_forward_length": p["n_ff_exp"],
        "expert_count": p["n_expert"],
        "expert_used_count": p["n_used"],
        "expert_shared_count": p["n_shared"],
        "expert_weights_scale": 2.827,
        "expert_weights_norm": True,
        "expert_gating_func": 2,
        "rope.dimension_count": p["rope"],
        "rope.freq_base": 50000.0,
    }


def _qwen3moe_metadata(p: Numbers) -> dict[str, object]:
    return _grouped(p) | {
        "expert_feed_forward_length": p["n_ff_exp"],
        "expert_count": p["n_expert"],
        "expert_used_count": p["n_used"],
    }


def _gemma3_metadata(p: Numbers) -> dict[str, object]:
    return _grouped(p) | {"attention.sliding_window": p["n_swa"]}


def _gemma4_metadata(p: Numbers) -> dict[str, object]:
    return _gemma3_metadata(p) | {
        "attention.key_length_swa": p["head_swa"],
        "attention.value_length_swa": p["head_swa"],
        "attention.sliding_window_pattern": [_slides(block) for block in range(p["n_block"])],
        "attention.shared_kv_layers": 0,
        "embedding_length_per_layer_input": p["per_layer"],
        "rope.freq_base_swa": 1e4,
        "rope.dimension_count": p["head"],
        "rope.dimension_count_swa": p["head_swa"],
    }


def _llama_metadata(p: Numbers) -> dict[str, object]:
    return _grouped(p) | {"vocab_size": p["n_vocab"], "rope.dimension_count": p["head"]}


def _grouped(p: Numbers) -> dict[str, object]:
    return _common(p) | {
        "attention.head_count_kv": p["n_head_kv"],
        "attention.key_length": p["head"],
        "attention.value_length": p["head"],
        "rope.freq_base": 1e6,
    }


def _common(p: Numbers) -> dict[str, object]:
    return {
        "context_length": p["n_ctx"],
        "embedding_length": p["n_embd"],
        "block_count": p["n_block"],
        "feed_forward_length": p["n_ff"],
        "attention.head_count": p["n_head"],
        "attention.layer_norm_rms_epsilon": 1e-6,
    }


def spm_vocabulary(n_vocab: int) -> dict[str, object]:
    """A SentencePiece vocabulary: specials, bytes, then made-up words with falling scores."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [2, 3, 3] + [6] * 256
    tokens += [f"▁w{index}" for index in range(n_vocab - len(tokens))]
    kinds += [1] * (n_vocab - len(kinds))
    return _tokenizer("llama", "default", tokens, kinds) | {
        "tokenizer.ggml.scores": [-float(index) for index in range(n_vocab)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def bpe_vocabulary(n_vocab: int) -> dict[str, object]:
    """A byte-level BPE vocabulary as Kimi's: 256 bytes, then merges of what is there, then three specials."""
    tokens = _byte_characters()
    starts, letters = ["Ġ", *"abcdefghijklmnopqrstuvwxyz"], "etaoinshrdlucmfwypvbgkjqxz"
    merges = []
    while len(tokens) + 3 < n_vocab:
        pairs = [(start, letter) for start in starts for letter in letters][: n_vocab - 3 - len(tokens)]
        merges += [f"{start} {letter}" for start, letter in pairs]
        starts = [start + letter for start, letter in pairs]
        tokens += starts
    kinds = [1] * len(tokens) + [3] * 3
    tokens += ["[BOS]", "[EOS]", "[PAD]"]
    return _tokenizer("gpt2", "kimi-k2", tokens, kinds) | {
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": n_vocab - 3,
        "tokenizer.ggml.eos_token_id": n_vocab - 2,
        "tokenizer.ggml.padding_token_id": n_vocab - 1,
    }


def _byte_characters() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes (bytes_to_unicode)."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


def _tokenizer(model: str, pre: str, tokens: list[str], kinds: list[int]) -> dict[str, object]:
    return {
        "tokenizer.ggml.model": model,
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": Typed(ValueType.I32, kinds),
        "tokenizer.chat_template": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:",
    }


_TENSORS = {
    "deepseek2": _deepseek2,
    "qwen3moe": _qwen3moe,
    "llama": _llama,
    "gemma3": _gemma3,
    "gemma4": _gemma4,
}
_METADATA = {
    "deepseek2": _deepseek2_metadata,
    "qwen3moe": _qwen3moe_metadata,
    "llama": _llama_metadata,
    "gemma3": _gemma3_metadata,
    "gemma4": _gemma4_metadata,
}
_VOCABULARIES = {"spm": spm_vocabulary, "bpe": bpe_vocabulary}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("architecture", choices=sorted(PRESETS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="mini")
    for what in ("expert", "dense", "embedding"):
        parser.add_argument(f"--{what}-type", type=GgmlType.__getitem__, default=getattr(Types(), what))
    parser.add_argument("--hollow", action="store_true")
    parser.add_argument("--splits", type=int, default=1)
    parser.add_argument("--vocabulary", choices=sorted(_VOCABULARIES), default="spm")
    parser.add_argument("--set", action="append", default=[], metavar="NUMBER=VALUE")
    args = parser.parse_args()
    if args.preset not in PRESETS[args.architecture]:
        parser.error(f"--preset of {args.architecture}: {', '.join(PRESETS[args.architecture])}")
    pairs = (item.partition("=") for item in args.set)
    paths = make_gguf(
        args.out,
        args.architecture,
        preset=args.preset,
        types=Types(expert=args.expert_type, dense=args.dense_type, embedding=args.embedding_type),
        splits=args.splits,
        hollow=args.hollow,
        vocabulary=args.vocabulary,
        numbers={name: int(value) for name, _, value in pairs},
    )
    for path in paths:
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
