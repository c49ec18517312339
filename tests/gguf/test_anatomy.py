from __future__ import annotations

import pytest

from launcher.gguf.anatomy import Anatomy, dissect
from launcher.gguf.ggml import GgmlType, tensor_bytes
from launcher.gguf.header import Header, TensorInfo, Value, parse_header
from launcher.gguf.tensor_names import TensorKind
from tests.make_gguf import MadeShard, Types, make_shards


def headers_of(shards: tuple[MadeShard, ...]) -> tuple[Header, ...]:
    headers = tuple(parse_header(shard.header) for shard in shards)
    return tuple(header for header in headers if isinstance(header, Header))


def dissected(shards: tuple[MadeShard, ...], file_name: str | None = None) -> Anatomy:
    headers = headers_of(shards)
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    return dissect(headers[0].metadata, tensors, file_name=file_name)


def test_kimis_parameters_are_the_published_ones() -> None:
    kimi = dissected(make_shards("deepseek2", preset="kimi-k2.5", splits=3))
    assert kimi.n_params == 1_026_408_232_448
    assert round(kimi.n_params_active / 1e9, 3) == 32.862
    assert kimi.bytes_by_kind[TensorKind.ROUTED_EXPERTS] == 60 * 3 * 384 * 7168 * 2048 * 18 // 32
    assert kimi.bytes_per_token == (
        kimi.weight_bytes
        - kimi.bytes_by_kind[TensorKind.EMBEDDING]
        - kimi.bytes_by_kind[TensorKind.ROUTED_EXPERTS] * 376 // 384
    )


def test_bytes_by_kind_are_all_the_bytes() -> None:
    mini = dissected(make_shards("deepseek2"))
    assert sum(mini.bytes_by_kind.values()) == mini.weight_bytes == sum(size for _, size in mini.types)
    assert mini.bytes_by_kind[TensorKind.SHARED_EXPERT] == 7 * 3 * 1024 * 512 * 34 // 32
    assert mini.bytes_by_kind[TensorKind.DENSE_FFN] == 3 * 1024 * 2048 * 34 // 32
    assert (
        mini.bytes_by_kind[TensorKind.OUTPUT]
        == mini.bytes_by_kind[TensorKind.EMBEDDING]
        == 1024 * 1024 * 34 // 32
    )
    assert 8 * mini.weight_bytes / mini.n_params == mini.bits_per_weight
    assert mini.types[0][0] is GgmlType.Q4_0
    assert {item.block for item in mini.tensors} == {None, *range(8)}


def test_a_dense_model_reads_all_but_its_input_embedding() -> None:
    llama = dissected(make_shards("llama"))
    assert llama.n_params_active == llama.n_params
    assert llama.bytes_per_token == llama.weight_bytes - llama.bytes_by_kind[TensorKind.EMBEDDING]


def test_a_tied_embedding_is_read_as_the_output() -> None:
    gemma = dissected(make_shards("gemma3"))
    assert not gemma.architecture.has_output_tensor
    assert TensorKind.OUTPUT not in gemma.bytes_by_kind
    assert gemma.bytes_per_token == gemma.weight_bytes


def test_mtp_blocks_are_not_read() -> None:
    shards = make_shards("deepseek2", metadata={"deepseek2.nextn_predict_layers": 1})
    mini = dissected(shards)
    assert mini.bytes_by_kind[TensorKind.MTP] == sum(
        item.info.size_bytes for item in mini.tensors if item.block == 7
    )
    assert mini.n_params_active < dissected(make_shards("deepseek2")).n_params_active


@pytest.mark.parametrize(
    ("file_name", "file_type", "sentences"),
    [
        ("K-Q4_0.gguf", 2, []),
        (None, None, []),
        ("K-IQ4_KS_R4.gguf", 4, ["the file name says IQ4_KS_R4"]),
        ("K-UD-TQ1_0-00001-of-00005.gguf", 2, ["the file name says UD-TQ1_0"]),
        ("K-Q4_0.gguf", 36, ["general.file_type says TQ1_0"]),
        ("K-Q8_0.gguf", 7, ["the file name says Q8_0", "the general.file_type says Q8_0"]),
    ],
)
def test_names_that_disagree_with_the_tensors(
    file_name: str | None, file_type: int | None, sentences: list[str]
) -> None:
    metadata: dict[str, Value] = {} if file_type is None else {"general.file_type": file_type}
    mini = dissected(make_shards("qwen3moe", metadata=metadata), file_name)
    assert mini.quant == "Q4_0"
    assert len(mini.disagreements) == len(sentences)
    for sentence, words in zip(mini.disagreements, sentences, strict=True):
        assert words in sentence
        assert "% of the block weights are Q4_0" in sentence


def test_a_mix_is_named_by_its_blocks() -> None:
    types = Types(expert=GgmlType.Q4_K, dense=GgmlType.Q6_K, embedding=GgmlType.F16)
    numbers = {"n_ff_exp": 512, "n_ff": 2048}
    assert dissected(make_shards("qwen3moe", types=types, numbers=numbers)).quant == "Q4_K_M"


def test_a_model_of_no_tensors_is_no_crash() -> None:
    metadata: dict[str, Value] = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": 1,
        "llama.embedding_length": 1,
    }
    empty = dissect(metadata, ())
    assert (empty.n_params, empty.bits_per_weight, empty.quant, empty.disagreements) == (0, 0.0, "none", ())


def made_of(*tensors: tuple[str, tuple[int, ...], GgmlType], **metadata: Value) -> Anatomy:
    numbers: dict[str, Value] = {"block_count": 2, "context_length": 8, "embedding_length": 256}
    known: dict[str, Value] = {"general.architecture": "llama", **metadata}
    infos = tuple(
        TensorInfo(name=name, shape=shape, type=type_, offset=0, size_bytes=tensor_bytes(shape, type_))
        for name, shape, type_ in tensors
    )
    return dissect(
        {f"llama.{key}": value for key, value in numbers.items()} | known, infos, file_name="m-Q8_0.gguf"
    )


EMBEDDING = ("token_embd.weight", (256, 1000), GgmlType.F16)
OUTPUT = ("output.weight", (256, 900), GgmlType.Q6_K)
NORM = ("output_norm.weight", (256,), GgmlType.F32)
VECTOR = ("blk.0.ssm_a", (100_000,), GgmlType.F32)
MATRIX = ("blk.0.attn_q.weight", (256, 9), GgmlType.Q5_0)
OTHER = ("blk.0.attn_v.weight", (256, 3), GgmlType.Q8_0)


@pytest.mark.parametrize(
    ("tensors", "quant"),
    [
        ((EMBEDDING, OUTPUT, NORM, VECTOR, MATRIX), "Q5_0"),
        ((EMBEDDING, OUTPUT, NORM, VECTOR), "F16"),
        ((OUTPUT, NORM), "Q6_K"),
        ((NORM,), "F32"),
    ],
)
def test_the_blocks_matrices_name_a_quant_or_else_what_there_is(
    tensors: tuple[tuple[str, tuple[int, ...], GgmlType], ...], quant: str
) -> None:
    assert made_of(*tensors).quant == quant


def test_a_claim_is_held_against_the_share_of_the_weights() -> None:
    assert made_of(MATRIX, OTHER).disagreements == (
        "the file name says Q8_0, and 75 % of the block weights are Q5_0 (Q5_0)",
    )


def test_experts_of_a_model_that_names_no_number_are_all_read() -> None:
    experts = ("blk.0.ffn_up_exps.weight", (256, 8, 4), GgmlType.F16)
    whole = made_of(experts, MATRIX)
    assert (whole.bytes_per_token, whole.n_params_active) == (whole.weight_bytes, whole.n_params)


def test_a_table_of_which_a_token_reads_a_row_is_not_active() -> None:
    plain = made_of(("blk.0.attn_q.weight", (64, 64), GgmlType.F16))
    table = ("per_layer_token_embd.weight", (32, 100_000), GgmlType.F16)
    with_table = made_of(("blk.0.attn_q.weight", (64, 64), GgmlType.F16), table)
    assert with_table.n_params == plain.n_params + 32 * 100_000
    assert with_table.n_params_active == plain.n_params_active + 32


def test_a_shared_expert_is_counted_where_the_metadata_tell_no_number() -> None:
    shared = made_of(("blk.0.ffn_up_shexp.weight", (64, 64), GgmlType.F16))
    assert (shared.architecture.n_expert_shared, shared.n_expert_shared) == (None, 1)
    assert made_of(("blk.0.attn_q.weight", (64, 64), GgmlType.F16)).n_expert_shared is None
    assert dissected(make_shards("deepseek2")).n_expert_shared == 1
