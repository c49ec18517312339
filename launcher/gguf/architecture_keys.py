"""Read the metadata keys of one architecture (`deepseek2.block_count`), checking types and limits."""

from __future__ import annotations

import re
from collections.abc import Mapping

from launcher.errors import BadGguf
from launcher.gguf.cursor import quoted
from launcher.gguf.header import SkippedArray, Value

COMMIT = "0c1e570"  # of llama.cpp; the list is LLM_ARCH_NAMES in src/llama-arch.cpp

ARCHITECTURES = frozenset(
    """
    afmoe apertus arcee arctic arwkv7 baichuan bailingmoe bailingmoe2 bailingmoe3 bert bitnet bloom
    chameleon chatglm clip codeshell cogvlm cohere2 cohere2moe command-r dbrx deci deepseek deepseek2
    deepseek2-ocr deepseek32 deepseek4 dflash dots1 dots3note dream eagle3 ernie4_5 ernie4_5-moe eurobert
    exaone exaone-moe exaone4 falcon falcon-h1 gemma gemma-embedding gemma2 gemma3 gemma3n gemma4
    gemma4-assistant glm-dsa glm4 glm4moe glm5-next gpt-oss gpt2 gptj gptneox granite granite_swa
    granitehybrid granitemoe graniteswitch grok grovemoe hrm_text hunyuan-dense hunyuan-moe hunyuan_vl
    hy_v3 hy_v4 internlm2 jais jais2 jamba jina-bert-v2 jina-bert-v3 kimi-k3 kimi-linear laguna lfm2
    lfm2moe llada llada-moe llama llama-embed llama4 maincoder mamba mamba2 maple mellum mimo2 minicpm
    minicpm3 minimax-01 minimax-m2 minimax-m3 mistral3 mistral4 modern-bert mpt muse-glimmer nanbeige
    nemotron nemotron_h nemotron_h_moe neo-bert nomic-bert nomic-bert-moe olmo olmo2 olmoe openelm orion
    paddleocr pangu-embedded phi2 phi3 phimoe plamo plamo2 plamo3 plm pockettts qwen qwen2 qwen2moe
    qwen2vl qwen3 qwen35 qwen35moe qwen3moe qwen3next qwen3tts qwen3vl qwen3vlmoe qwen4exp refact rnd1
    rwkv6 rwkv6qwen2 rwkv7 seed_oss smallthinker smollm3 spark2_5 stablelm starcoder starcoder2 step35 t5
    t5encoder talkie wavtokenizer-dec xverse
    """.split()  # noqa: SIM905 - 153 words read better without quotes and commas
)

_U32_MAX = (1 << 32) - 1
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # as all of the above, and room for newer ones


class ArchitectureKeys:
    """The metadata keys that begin with the architecture's name.

    Readers return None for a missing key and raise BadGguf for a value of the wrong type.
    """

    def __init__(self, metadata: Mapping[str, Value]) -> None:
        name = metadata.get("general.architecture")
        if not isinstance(name, str) or not name:
            raise BadGguf("general.architecture is missing: the file does not say which model it is")
        if _NAME.fullmatch(name) is None:  # it begins every key, and every message about one
            raise _unknown(name)
        self.name = name
        self._metadata = metadata

    def number(self, key: str, most: int = _U32_MAX) -> int | None:
        value = self._metadata.get(f"{self.name}.{key}")
        return None if value is None else self._whole(key, value, most)

    def required(self, key: str, most: int = _U32_MAX) -> int:
        value = self.number(key, most)
        if value is None and self.name not in ARCHITECTURES:
            # an unknown architecture with all its numbers is read: a newer engine may know it
            raise _unknown(self.name)
        if value is None:
            raise BadGguf(f"{self.name}.{key} is missing, and llama.cpp needs it")
        return value

    def per_block(self, key: str, n_block: int) -> tuple[int, ...] | None:
        """Return one number per block. A file has one for all, or an array.

        As `llama_model_loader::get_key_or_arr` (src/llama-model-loader.cpp).
        """
        value = self._metadata.get(f"{self.name}.{key}")
        if value is None:
            return None
        if isinstance(value, SkippedArray):
            raise BadGguf(f"{self.name}.{key} has {value.length} items, and the model {n_block} blocks")
        if not isinstance(value, tuple):
            return (self._whole(key, value, _U32_MAX),) * n_block
        if len(value) != n_block:
            raise BadGguf(f"{self.name}.{key} has {len(value)} items, and the model {n_block} blocks")
        return tuple(self._whole(key, item, _U32_MAX) for item in value)

    def flags(self, key: str, n_block: int) -> tuple[bool, ...] | None:
        """Return a flag a block if the file has an array of them; flags missing at its end are off."""
        value = self._metadata.get(f"{self.name}.{key}")
        if not isinstance(value, tuple):
            return None
        flags = tuple(
            bool(self._whole(key, int(item) if isinstance(item, bool) else item, 1)) for item in value
        )
        return (flags + (False,) * n_block)[:n_block]

    def _whole(self, key: str, value: object, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadGguf(f"{self.name}.{key} must be a whole number and is {_shortened(value)}")
        if not 0 <= value <= most:
            raise BadGguf(f"{self.name}.{key} is {value}, and must be from 0 to {most}")
        return value


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _unknown(name: str) -> BadGguf:
    return BadGguf(
        f"unknown model architecture {quoted(name)} (llama.cpp {COMMIT})",
        hint="launcher engine update takes a newer engine; or look for another file of this model",
    )
