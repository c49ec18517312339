"""Numbers as llama.cpp reads them; expected values follow src/models/*.cpp and src/llama-hparams.cpp."""

from __future__ import annotations

import pytest

from launcher.gguf.architecture import Mla, read_architecture
from launcher.gguf.header import Header, SkippedArray, Value, parse_header
from launcher.gguf.recurrence import Recurrence
from tests.gguf.architectures import flags, read, tensor
from tests.make_gguf import make_shards


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
