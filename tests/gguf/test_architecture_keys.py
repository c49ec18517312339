from __future__ import annotations

import pytest

from launcher.engine.pinned import LLAMA_CPP
from launcher.errors import BadGguf
from launcher.gguf.architecture import read_architecture
from launcher.gguf.architecture_keys import COMMIT, ArchitectureKeys
from launcher.gguf.header import SkippedArray, Value
from tests.gguf.architectures import read


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
    # a newer engine may know it
    numbers = {"block_count": 2, "embedding_length": 8, "context_length": 64}
    metadata: dict[str, Value] = {f"zlama.{key}": value for key, value in numbers.items()}
    assert read_architecture({**metadata, "general.architecture": "zlama"}, ()).n_block == 2


def test_the_known_architectures_are_the_pinned_engines() -> None:
    assert LLAMA_CPP.commit == COMMIT


def test_a_number_is_at_most_what_32_bits_hold() -> None:
    def read_number(value: Value, most: int | None = None) -> int | None:
        keys = ArchitectureKeys({"general.architecture": "llama", "llama.n": value})
        return keys.number("n") if most is None else keys.number("n", most)

    assert [read_number(value) for value in (0, 1, 2**32 - 1)] == [0, 1, 2**32 - 1]
    assert read_number(7, most=7) == 7
    for value, most in ((2**32, None), (-1, None), (8, 7)):
        with pytest.raises(BadGguf, match=f"llama.n is {value}, and must be from 0 to"):
            read_number(value, most)


@pytest.mark.parametrize(("length", "shown"), [(38, 38), (39, 39), (500, 39)])
def test_a_value_of_the_wrong_type_is_shown_as_far_as_it_is_short(length: int, shown: int) -> None:
    with pytest.raises(BadGguf) as caught:
        ArchitectureKeys({"general.architecture": "llama", "llama.n": "x" * length}).number("n")
    assert caught.value.message.count("x") == shown
    assert caught.value.message.endswith("x'" if length == 38 else "…")
