from __future__ import annotations

import pytest

from launcher.errors import NotFound, UsageError
from launcher.models.refs import ModelRef, RefKind, _split_hub, parse_ref, safe_file_name

PROFILES = ("kimi-k2.5", "smollm2-135m", "Qwen3-0.6B")


def parse(text: str, *files: str, hub_url: str = "https://huggingface.co") -> ModelRef:
    return parse_ref(text, profile_names=PROFILES, path_exists=files.__contains__, hub_url=hub_url)


def hub_ref(name: str, **narrowed: str) -> ModelRef:
    return ModelRef(kind=RefKind.HUB, name=name, **narrowed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kimi-k2.5", ModelRef(kind=RefKind.PROFILE, name="kimi-k2.5")),
        ("kimi-k2.5:TQ1_0", ModelRef(kind=RefKind.PROFILE, name="kimi-k2.5", quant="TQ1_0")),
        ("KIMI-K2.5", ModelRef(kind=RefKind.PROFILE, name="kimi-k2.5")),
        ("qwen3-0.6b", ModelRef(kind=RefKind.PROFILE, name="Qwen3-0.6B")),
        ("unsloth/Kimi-K2.5-GGUF", hub_ref("unsloth/Kimi-K2.5-GGUF")),
        ("unsloth/Kimi-K2.5-GGUF:UD-TQ1_0", hub_ref("unsloth/Kimi-K2.5-GGUF", quant="UD-TQ1_0")),
        ("hf:u/r:Q4_K_M", hub_ref("u/r", quant="Q4_K_M")),
        ("hf://u/r", hub_ref("u/r")),
        ("hf.co/u/r:Q4_K_M", hub_ref("u/r", quant="Q4_K_M")),
        ("huggingface.co/u/r", hub_ref("u/r")),
        ("u/r@v1.0:Q8_0", hub_ref("u/r", revision="v1.0", quant="Q8_0")),
        ("u/r@refs/pr/3", hub_ref("u/r", revision="refs/pr/3")),
        ("u/r/dir/x-Q8_0.gguf", hub_ref("u/r", file="dir/x-Q8_0.gguf")),
        ("u/r@abc/x.gguf", hub_ref("u/r", revision="abc", file="x.gguf")),
        ("u/r:x-Q8_0.gguf", hub_ref("u/r", file="x-Q8_0.gguf")),
        ("https://huggingface.co/u/r", hub_ref("u/r")),
        ("https://huggingface.co/u/r/", hub_ref("u/r")),
        ("https://www.huggingface.co/u/r?library=llama-cpp", hub_ref("u/r")),
        ("https://huggingface.co/u/r/tree/main", hub_ref("u/r", revision="main")),
        (
            "https://huggingface.co/u/r/tree/main/UD-TQ1_0",
            hub_ref("u/r", revision="main", quant="UD-TQ1_0"),
        ),
        ("huggingface.co/u/r/tree/main/UD-TQ1_0", hub_ref("u/r", revision="main", quant="UD-TQ1_0")),
        (
            "https://huggingface.co/u/r/blob/main/Q4/x.gguf",
            hub_ref("u/r", revision="main", file="Q4/x.gguf"),
        ),
        (
            "https://hf.co/u/r/resolve/refs%2Fpr%2F1/x%20y.gguf?download=true",
            hub_ref("u/r", revision="refs/pr/1", file="x y.gguf"),
        ),
        (
            "https://huggingface.co/u/r?show_file_info=Q4%2Fx.gguf",
            hub_ref("u/r", file="Q4/x.gguf"),
        ),
        (
            "https://host.example/m/x.gguf?sig=1",
            ModelRef(kind=RefKind.URL, name="https://host.example/m/x.gguf?sig=1"),
        ),
    ],
)
def test_a_text_without_files_has_one_reading(text: str, expected: ModelRef) -> None:
    assert expected == parse(text)


@pytest.mark.parametrize("text", ["./x.gguf", "/m/x.gguf", "~/x.gguf", "../m", "models/x.gguf", "x.gguf"])
def test_what_is_there_is_a_path(text: str) -> None:
    assert ModelRef(kind=RefKind.PATH, name=text) == parse(text, text)


@pytest.mark.parametrize("text", ["./x.gguf", "/m/x.gguf", "models/x.gguf", "x.gguf"])
def test_a_path_that_is_not_there_is_not_taken_for_a_repo(text: str) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        parse(text)


def test_pages_of_the_hub_in_use_are_references_to_it() -> None:
    assert hub_ref("u/r") == parse("http://mirror:8080/hf/u/r", hub_url="http://mirror:8080/hf")
    with pytest.raises(UsageError, match="is not the Hub in use") as caught:
        parse("http://mirror:8080/u/r")
    assert "HF_ENDPOINT" in (caught.value.hint or "")


def test_a_repo_and_a_folder_of_the_same_name_are_both_listed() -> None:
    with pytest.raises(UsageError, match=r"2 ways: the path \./u/r, the hub repo hf:u/r"):
        parse("u/r", "u/r")
    assert hub_ref("u/r") == parse("hf:u/r", "u/r")
    assert ModelRef(kind=RefKind.PATH, name="./u/r") == parse("./u/r", "./u/r")


def test_a_near_miss_names_the_nearest_profiles() -> None:
    with pytest.raises(NotFound) as caught:
        parse("kimi-k25")
    assert "kimi-k2.5" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "u/r\n",
        "u/\x00r",
        "hf:../..",
        "hf:u/..",
        "hf:u/r/../x.gguf",
        "hf:u",
        "hf:u/a b",
        "hf:u/-r",
        "hf:u/a--b",
        "hf:" + "u" * 97 + "/r",
        "u/r:",
        "u/r:Q4 K",
        "u/r:../x",
        "u/r:" + "Q" * 65,
        "u/r@../..:Q4_0",
        "u/r@a b",
        "u/r@" + "a" * 300,
        "x" * 3000,
        "kimi-k2.5:",
        "kimi-k2.5:a/b",
        "ftp://host/x.gguf",
        "https:///x.gguf",
        "https://host:99999/x.gguf",
        "https://host/a b.gguf",
        "https://host/page",
        "https://huggingface.co/u",
        "https://huggingface.co/datasets/u/r",
        "https://huggingface.co/u/r/blob/main/README.md",
        "https://huggingface.co/u/r/blob/main/%2e%2e/x.gguf",
        "https://huggingface.co/u/r/blob/main/a%5Cx.gguf",
        "https://huggingface.co/u/r/blob/main/a%00x.gguf",
        "https://huggingface.co/u/r/tree/main/../..",
        "https://huggingface.co/u%2F..%2F/r",
    ],
)
def test_odd_texts_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["x.gguf", "UD-TQ1_0/x-00001-of-00005.gguf", "a b.gguf", "ä.gguf"])
def test_ordinary_file_names_are_safe(name: str) -> None:
    assert safe_file_name(name) is None


@pytest.mark.parametrize(
    "name",
    ["", "/x.gguf", "a//x", "../x", "a/../x", "./x", "a\\x", "C:x", "a\x00", "a\nb", "x" * 256, "a/" * 1200],
)
def test_names_that_leave_their_folder_are_not(name: str) -> None:
    assert safe_file_name(name) is not None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("u/r", ("u/r", None, None, None)),
        ("u/r:", ("u/r", None, "", None)),
        ("u/r:Q4", ("u/r", None, "Q4", None)),
        ("u/r@v", ("u/r", "v", None, None)),
        ("u/r@a/b:Q4", ("u/r", "a/b", "Q4", None)),
        ("u/r@a/b/c.gguf", ("u/r", "a", None, "b/c.gguf")),
        ("u/r@a/b", ("u/r", "a/b", None, None)),
        ("u/r/d/f.gguf", ("u/r", None, None, "d/f.gguf")),
        ("u/r/f.gguf:Q4", None),
        ("u/r/f", None),
        ("u/r/.gguf", None),
        ("u/r@", None),
        ("u/r:a:b", None),
        ("u", None),
        ("u/r@" + "a/" * 400_000 + "b:" + "c" * 400_000, ("u/r", "a/" * 400_000 + "b", "c" * 400_000, None)),
    ],
)
def test_a_hub_reference_is_split_in_one_pass(text: str, parts: tuple[str | None, ...] | None) -> None:
    assert _split_hub(text) == parts
