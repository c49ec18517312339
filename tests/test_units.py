import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.units import GIB, format_bytes, format_count, listed, parse_context, parse_size


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("128G", 128 * GIB),
        ("128GiB", 128 * GIB),
        ("128 GB", 128 * GIB),
        ("1.5g", GIB * 3 // 2),
        ("512M", 512 << 20),
        ("2T", 2 << 40),
        ("4096B", 4096),
        ("0", 0),
    ],
)
def test_sizes_are_binary(text: str, n_bytes: int) -> None:
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize("text", ["32", "4096", "0.5", "9" * 400])
def test_a_size_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="has no unit") as caught:
        parse_size(text)
    assert "G for GiB" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["", "G", "-1G", "1e3G", "12 parsecs", "1GG", "nan"])
def test_a_bad_size_is_a_sentence(text: str) -> None:
    with pytest.raises(UsageError, match="is not a number with K, M, G or T") as caught:
        parse_size(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "tokens"), [("32768", 32768), ("32k", 32768), ("128K", 131072), ("1m", 1 << 20)]
)
def test_contexts(text: str, tokens: int) -> None:
    assert parse_context(text) == tokens


@pytest.mark.parametrize("text", ["0", "0k", "k", "-1", "1.0.0"])
def test_a_bad_context_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="context"):
        parse_context(text)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(19541073920, "18.2 GiB"), (0, "0 B"), (1023, "1023 B"), (-GIB, "-1.0 GiB"), (None, "?")],
)
def test_bytes_for_people(n_bytes: int | None, text: str) -> None:
    assert format_bytes(n_bytes) == text


def test_counts_for_people() -> None:
    assert [format_count(n) for n in (1026408232448, 32862000000, 134515008, 999)] == [
        "1.03T",
        "32.9B",
        "134.5M",
        "999",
    ]


@given(st.integers(min_value=1, max_value=1 << 50))
def test_formatted_bytes_read_back_within_rounding(n_bytes: int) -> None:
    assert parse_size(format_bytes(n_bytes)) == pytest.approx(n_bytes, rel=0.06)


@pytest.mark.parametrize("text", ["9" * 400 + "B", "9" * 400 + "T", "9" * 5000 + "G", "9000000T"])
def test_a_size_beyond_all_machines(text: str) -> None:
    with pytest.raises(UsageError, match="is more than any machine has") as caught:
        parse_size(text)
    assert len(caught.value.message) < 100


@pytest.mark.parametrize("text", ["9" * 400, "9" * 400 + "k", "2147483648"])
def test_a_context_beyond_what_llama_cpp_counts(text: str) -> None:
    with pytest.raises(UsageError, match="is more than the 2147483647 tokens") as caught:
        parse_context(text)
    assert len(caught.value.message) < 120


@pytest.mark.parametrize(
    ("names", "sentence"),
    [((), ""), (("a",), "a"), (("a", "b"), "a and b"), (("a", "b", "c"), "a, b and c")],
)
def test_names_are_listed_as_a_sentence_lists_them(names: tuple[str, ...], sentence: str) -> None:
    assert listed(names) == sentence
