"""Numbers as llama.cpp reads them; expected values follow src/models/*.cpp and src/llama-hparams.cpp."""

from __future__ import annotations

import pytest

from launcher.engine.pinned import LLAMA_CPP
from launcher.errors import BadGguf
from launcher.gguf.architecture import Architecture, Mla, read_architecture
from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import Header, SkippedArray, TensorInfo, Value, parse_header
from launcher.gguf.known_architectures import COMMIT
from launcher.gguf.recurrence import Recurrence
from tests.make_gguf import make_shards


def tensor(name: str, *shape: int) -> TensorInfo:
    return TensorInfo(name=name, shape=shape or (1,), type=GgmlType.F32, offset=0, size_bytes=4)


def read(name: str, *tensors: TensorInfo, **numbers: Value) -> Architecture:
    """An architecture from the numbers of a small model and those given (`a__b` is `a.b`)."""
    base: dict[str, Value] = {
        "block_count": 4,
        "context_length": 1000,
        "embedding_length": 64,
        "attention.head_count": 4,
    }
    base |= {key.replace("__", "."): value for key, value in numbers.items()}
    metadata = {f"{name}.{key}": value for key, value in base.items()} | {"general.architecture": name}
    return read_architecture(metadata, tensors)


def flags(pattern: str) -> tuple[bool, ...]:
    return tuple(character == "1" for character in pattern)


def test_a_dense_model_with_defaults() -> None:
    model = read("llama")
    assert (model.n_block, model.n_nextn, model.n_main, model.n_loop) == (4, 0, 4, 1)
    assert (model.n_head, model.n_head_kv) == ((4,) * 4, (4,) * 4)
    assert (model.n_embd_head_k, model.n_embd_head_v, model.rope_dims) == (16, 16, 16)
    assert (model.n_expert, model.is_moe, model.is_mla) == (0, False, False)
    assert (model.n_swa, model.swa_blocks) == (None, flags("0000"))
    assert model.kv_blocks == flags("1111")
    assert (model.recurrence, model.n_vocab, model.has_output_tensor) == (None, None, False)


def test_kimis_shape() -> None:
    header = parse_header(make_shards("deepseek2", preset="kimi-k2.5")[0].header)
    assert isinstance(header, Header)
    model = read_architecture(header.metadata, header.tensors)
    assert (model.n_block, model.n_embd, model.n_ctx_train, model.n_vocab) == (61, 7168, 262144, 163840)
    assert (model.n_expert, set(model.n_expert_used), model.n_expert_shared, model.n_dense_lead) == (
        384,
        {8},
        1,
        1,
    )
    assert model.mla == Mla(q_lora_rank=1536, kv_lora_rank=512, key_length=192, value_length=128)
    assert set(model.n_head_kv) == {1}
    assert (model.n_embd_head_k, model.n_embd_head_v, model.rope_dims) == (576, 512, 64)
    assert model.has_output_tensor
    assert model.is_moe
    assert model.is_mla


def test_per_block_numbers_come_as_arrays() -> None:
    model = read("deci", attention__head_count_kv=(2, 0, 2, 1), feed_forward_length=(1, 2, 3, 4))
    assert model.n_head_kv == (2, 0, 2, 1)
    assert model.n_ff == (1, 2, 3, 4)


@pytest.mark.parametrize("lengths", [{"attention.key_length_mla": 0}, {"attention.key_length_mla": 192}, {}])
def test_mla_needs_both_lengths(lengths: dict[str, Value]) -> None:
    model = read("deepseek2", attention__kv_lora_rank=512, **lengths)
    assert model.mla is None
    assert model.kv_lora_rank == 512


def test_kimi_k3_caches_the_latent() -> None:
    model = read(
        "kimi-k3",
        attention__head_count_kv=(0, 0, 0, 1),
        attention__key_length=576,
        attention__key_length_mla=192,
        attention__value_length_mla=128,
        attention__kv_lora_rank=512,
        ssm__conv_kernel=4,
        kda__head_dim=128,
    )
    assert model.n_embd_head_v == 512
    assert model.recurrent_blocks == flags("1110")
    assert model.kv_blocks == flags("0001")
    assert model.recurrence == Recurrence(conv_elements=3 * 3 * 4 * 128, state_elements=128 * 128 * 4)


@pytest.mark.parametrize(
    ("name", "numbers", "n_swa", "pattern"),
    [
        ("gemma3", {"attention.sliding_window": 512, "block_count": 7}, 512, "1111101"),
        ("gemma3", {}, None, "0000"),
        ("gemma3", {"attention.sliding_window": 0}, None, "0000"),
        ("gemma3", {"attention.sliding_window": 512, "attention.sliding_window_pattern": 2}, 512, "1010"),
        ("gemma2", {}, 4096, "1010"),
        ("gpt-oss", {"attention.sliding_window": 128}, 128, "1010"),
        ("cohere2moe", {"attention.sliding_window": 32}, 32, "0111"),
        ("smallthinker", {"attention.sliding_window": 99}, 4096, "0111"),
        ("llama4", {}, 8192, "1110"),
        ("llama4", {"attention.sliding_window": 77}, 8192, "1110"),
        ("llama4", {"attention.sliding_window": 0}, None, "0000"),
        ("gemma4", {"attention.sliding_window": 9, "attention.sliding_window_pattern": (True, False, True, False)}, 9, "1010"),
        ("mimo2", {"attention.sliding_window": 9, "attention.sliding_window_pattern": (1, 0, 0, 1)}, 9, "1001"),
        ("mimo2", {"attention.sliding_window": 9}, 9, "0000"),
        ("step35", {"attention.sliding_window": 9, "attention.sliding_window_pattern": (True,)}, 9, "1000"),
        ("deepseek4", {"attention.sliding_window": 9}, 9, "1111"),
        ("deepseek4", {}, None, "0000"),
        ("lfm2", {"attention.sliding_window": 9, "attention.head_count_kv": (0, 2, 0, 2)}, 9, "0101"),
        ("exaone4", {"attention.sliding_window": 9}, None, "0000"),
        ("exaone4", {"block_count": 64}, 4096, "1110" * 16),
        ("exaone-moe", {"attention.sliding_window": 9, "nextn_predict_layers": 2, "block_count": 6}, 9, "111000"),
        ("phi3", {"attention.sliding_window": 2048}, None, "0000"),
    ],
)  # fmt: skip
def test_sliding_windows(name: str, numbers: dict[str, Value], n_swa: int | None, pattern: str) -> None:
    model = read(name, **numbers)
    assert (model.n_swa, model.swa_blocks) == (n_swa, flags(pattern))


@pytest.mark.parametrize(
    ("name", "numbers", "recurrent", "cached"),
    [
        ("mamba", {}, "1111", "0000"),
        ("rwkv7", {"wkv.head_size": 8}, "1111", "0000"),
        ("falcon-h1", {}, "1111", "1111"),
        ("jamba", {"attention.head_count_kv": (0, 2, 0, 0)}, "1011", "0100"),
        (
            "nemotron_h",
            {"attention.head_count_kv": (0, 2, 0, 0), "feed_forward_length": (0, 0, 9, 0)},
            "1001",
            "0100",
        ),
        ("qwen3next", {}, "1110", "0001"),
        ("qwen3next", {"full_attention_interval": 2}, "1010", "0101"),
        ("qwen35", {"attention.recurrent_layers": (True, False, False, True)}, "1001", "0110"),
        ("qwen35", {"nextn_predict_layers": 1, "block_count": 5}, "11100", "00010"),
        ("minimax-01", {"block_count": 8}, "11111110", "00000001"),
        ("bert", {}, "0000", "0000"),
        ("gemma3n", {"block_count": 22, "attention.sliding_window": 9}, "0" * 22, "1" * 20 + "00"),
        ("gemma4", {"attention.shared_kv_layers": 1}, "0000", "1110"),
        ("deepseek2", {"nextn_predict_layers": 1}, "0000", "1110"),
    ],
)
def test_who_keeps_a_state_and_who_keys_and_values(
    name: str, numbers: dict[str, Value], recurrent: str, cached: str
) -> None:
    model = read(name, **numbers)
    assert model.recurrent_blocks == flags(recurrent)
    assert model.kv_blocks == flags(cached)


@pytest.mark.parametrize(
    ("name", "numbers", "conv", "state"),
    [
        ("mamba", {"ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 16}, 3 * 128, 16 * 128),
        (
            "mamba2",
            {"ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 16, "ssm.group_count": 2},
            3 * (128 + 2 * 2 * 16),
            16 * 128,
        ),
        ("rwkv6", {"wkv.head_size": 8}, 2 * 64, 64 * 8),
        ("rwkv7", {"wkv.head_size": 8, "token_shift_count": 1}, 64, 64 * 8),
        ("lfm2", {"attention.head_count_kv": 0, "shortconv.l_cache": 3}, 128, 0),
        ("kimi-linear", {"attention.head_count_kv": 0, "kda.head_dim": 32}, 3 * 3 * 4 * 32, 32 * 32 * 4),
        ("minimax-01", {"attention.key_length": 24}, 0, 24 * 24 * 4),
    ],
)
def test_sizes_of_recurrent_states(name: str, numbers: dict[str, Value], conv: int, state: int) -> None:
    assert read(name, **numbers).recurrence == Recurrence(conv_elements=conv, state_elements=state)


def test_a_model_without_heads_in_its_first_block() -> None:
    model = read("mamba", attention__head_count=0)
    assert (model.n_embd_head_k, model.n_embd_head_v, model.rope_dims) == (0, 0, 0)


def test_the_vocabulary_is_counted_where_it_is() -> None:
    assert read("llama", vocab_size=7).n_vocab == 7
    assert read("llama", tensor("token_embd.weight", 64, 500)).n_vocab == 500
    assert read("llama", tensor("token_embd.weight", 64)).n_vocab is None
    for tokens, n_vocab in ((("a", "b"), 2), (SkippedArray(element_type=8, length=99), 99)):
        metadata: dict[str, Value] = {
            "general.architecture": "llama",
            "llama.block_count": 1,
            "llama.context_length": 1,
            "llama.embedding_length": 1,
            "tokenizer.ggml.tokens": tokens,
        }
        assert read_architecture(metadata, ()).n_vocab == n_vocab


def test_mtp_blocks_that_were_left_out_do_not_count() -> None:
    assert read("deepseek4", nextn_predict_layers=1).n_nextn == 0
    assert read("deepseek4", tensor("blk.3.nextn.eh_proj.weight"), nextn_predict_layers=1).n_nextn == 1
    assert read("deepseek2", nextn_predict_layers=1).n_nextn == 1


def test_loops_multiply_where_the_architecture_has_them() -> None:
    assert read("nanbeige", num_loops=2).n_loop == 2
    assert read("llama", num_loops=2).n_loop == 1


def test_head_sizes_of_sliding_blocks() -> None:
    model = read(
        "gemma4", attention__key_length=512, attention__key_length_swa=256, attention__value_length_swa=128
    )
    assert (model.n_embd_head_k, model.n_embd_head_k_swa, model.n_embd_head_v_swa) == (512, 256, 128)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"block_count": "four"}, "llama.block_count must be a whole number and is 'four'"),
        ({"block_count": 4.0}, "must be a whole number and is 4.0"),
        ({"block_count": True}, "must be a whole number and is True"),
        ({"block_count": (1, 2)}, "must be a whole number and is (1, 2)"),
        ({"block_count": "x" * 500}, "…"),
        ({"block_count": 0}, "llama.block_count is 0"),
        ({"block_count": 513}, "must be from 0 to 512"),
        ({"embedding_length": -1}, "llama.embedding_length is -1"),
        ({"expert_count": 1025}, "must be from 0 to 1024"),
        ({"nextn_predict_layers": 5}, "must be from 0 to 4"),
        ({"attention.head_count": (1, 2)}, "has 2 items, and the model 4 blocks"),
        ({"attention.head_count": (1, 2, "x", 4)}, "must be a whole number and is 'x'"),
        ({"attention.head_count": SkippedArray(element_type=4, length=9999)}, "has 9999 items"),
        ({"attention.recurrent_layers": (2, 0, 0, 0)}, "is 2, and must be from 0 to 1"),
    ],
)
def test_hostile_numbers_are_one_sentence(numbers: dict[str, Value], words: str) -> None:
    with pytest.raises(BadGguf) as caught:
        read("llama", **numbers)
    assert words in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, "general.architecture is missing"),
        ({"general.architecture": 5}, "general.architecture is missing"),
        ({"general.architecture": ""}, "general.architecture is missing"),
        ({"general.architecture": "llama"}, "llama.block_count is missing"),
        ({"general.architecture": "clip"}, "a multimodal projector"),
        (
            {"general.architecture": "zlama"},
            r"^unknown model architecture 'zlama' \(llama.cpp 0c1e570\)$",
        ),
        ({"general.architecture": "\x1b]0;X"}, r"^unknown model architecture '\\x1b\]0;X'"),
        ({"general.architecture": "z" * 4000}, "^unknown model architecture 'zzz.{80}"),
    ],
)
def test_what_llama_cpp_needs_is_asked_for(metadata: dict[str, Value], words: str) -> None:
    with pytest.raises(BadGguf, match=words):
        read_architecture(metadata, ())


def test_an_unknown_architecture_with_its_numbers_is_read() -> None:
    """A newer engine may know it."""
    numbers = {"block_count": 2, "embedding_length": 8, "context_length": 64}
    metadata: dict[str, Value] = {f"zlama.{key}": value for key, value in numbers.items()}
    assert read_architecture({**metadata, "general.architecture": "zlama"}, ()).n_block == 2


def test_the_known_architectures_are_the_pinned_engines() -> None:
    assert LLAMA_CPP.commit == COMMIT
