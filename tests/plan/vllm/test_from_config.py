"""What a config.json may be: any JSON; what is not known of a model is refused."""

from __future__ import annotations

import json
import random

import pytest

from launcher.errors import UsageError
from launcher.plan.vllm.from_config import WeightFiles, shape_of
from launcher.plan.vllm.shape import HeadCache, LatentCache

LLAMA = {
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 2048,
}
FILES = WeightFiles(source="folder", weight_bytes=1_380_000)


def test_a_llama_is_read() -> None:
    shape = shape_of(LLAMA, FILES)
    assert shape.cache == HeadCache(n_kv_heads=2, head_dim=32, weight_bytes=2 * 32 * 128 * 2)
    assert (len(shape.layers), shape.max_ctx, shape.embedding_bytes) == (4, 2048, 128 * 128 * 2)
    tied = shape_of({**LLAMA, "tie_word_embeddings": True}, FILES)
    assert (shape.head_bytes, tied.head_bytes) == (shape.embedding_bytes, 0)


def test_a_vision_encoder_that_nobody_measured_is_refused() -> None:
    config = {"model_type": "kimi_k25", "text_config": LLAMA, "vision_config": {}}
    with pytest.raises(UsageError, match="vision encoder"):
        shape_of(config, FILES)
    known = WeightFiles(source="folder", weight_bytes=1_380_000, tower_bytes=1000)
    assert shape_of(config, known).tower_bytes == 1000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "gemma3_text"}, "'gemma3_text' model"),
        ({"model_type": None}, "model_type is not a text"),
        ({"hidden_size": -1}, "hidden_size is"),
        ({"hidden_size": 1 << 40}, "hidden_size is 1099511627776"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"torch_dtype": "int1"}, "torch_dtype is 'int1'"),
        ({"vocab_size": 1 << 20, "hidden_size": 1 << 20}, "fewer than its config.json says"),
        # of a head without width any number of tokens would fit
        ({"hidden_size": 1, "num_attention_heads": 64}, "hidden_size is 1, for 64 heads"),
        # vLLM chooses its code by the architecture
        ({"architectures": ["LlamaForCausalLMEagle3"]}, "'LlamaForCausalLMEagle3' model"),
        # 8-bit files that do not say so are 16 bits wide in vLLM, and so is what was not fetched
        ({"num_hidden_layers": 8}, "without quantisation"),
        ({"num_local_experts": 8}, "without quantisation"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        shape_of({**LLAMA, **change}, FILES)


@pytest.mark.parametrize("kind", ["qwen2_audio", "ultravox", "llama"])
def test_an_encoder_around_a_known_model_is_not_taken_for_it(kind: str) -> None:
    config = {"model_type": kind, "audio_config": {}, "text_config": LLAMA}
    with pytest.raises(UsageError):
        shape_of(config, FILES)


def test_files_of_what_says_that_it_is_quantised_may_be_small() -> None:
    quantisation = {"quant_method": "fp8", "weight_block_size": [128, True, -1, 10**9, "x"]}
    config = {**LLAMA, "architectures": ["LlamaForCausalLM"], "quantization_config": quantisation}
    shape = shape_of(config, WeightFiles(source="folder", weight_bytes=700_000))
    assert shape.is_quantised
    with pytest.raises(UsageError, match="with any quantisation"):
        shape_of(config, WeightFiles(source="folder", weight_bytes=100_000))
    assert [(each.width, each.step) for each in shape.widths] == [(128, 128), (256, 128), (128, 1)]


def test_any_json_is_a_shape_or_a_usage_error() -> None:
    chance = random.Random(1)
    latent = {**LLAMA, "model_type": "deepseek_v3", "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    latent |= {"qk_nope_head_dim": 128, "v_head_dim": 128, "n_routed_experts": 8}
    odd = [None, True, -1, 0, 1, 1.5, "", "x" * 1000, [], {}, [1], 1 << 70, 10**400, float("nan")]
    for _ in range(3000):
        config = dict(chance.choice([LLAMA, latent]))
        for key in chance.sample(sorted(config), chance.randint(1, 3)):
            config[key] = chance.choice(odd)
        try:
            shape = shape_of(json.loads(json.dumps(config)), FILES)
        except UsageError:
            continue
        assert isinstance(shape.cache, HeadCache | LatentCache)
        assert all(part.on_rank(1) >= 0 for part in shape.layers)
