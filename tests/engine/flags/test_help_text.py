"""Parsers on what two real llama-servers print: the pinned 0c1e570 and 7e4c0a9 (its package calls it b10434)."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.engine.flags.help_text import Capabilities, Option, Version, parse_help, parse_version

CAPTURES = Path(__file__).parents[2] / "captures" / "engine"
PINNED, OTHER = "0c1e570", "7e4c0a9"


def captured(name: str) -> str:
    return (CAPTURES / f"{name}.txt").read_text()


def options(commit: str) -> dict[str, Option]:
    parsed = parse_help(captured(f"help-{commit}"))
    return {spelling: option for option in parsed for spelling in option.spellings}


def able(commit: str) -> Capabilities:
    version = parse_version(captured(f"version-{commit}"))
    assert version is not None
    return Capabilities(sha256="0" * 64, version=version, options=parse_help(captured(f"help-{commit}")))


def test_an_option_with_everything() -> None:
    assert options(PINNED)["-fa"] == Option(
        spellings=("-fa", "--flash-attn"),
        hint="[on|off|auto]",
        values=("on", "off", "auto"),
        default="auto",
        env="LLAMA_ARG_FLASH_ATTN",
        help="set Flash Attention use ('on', 'off', or 'auto', default: 'auto')",
    )


@pytest.mark.parametrize("commit", [PINNED, OTHER])
def test_every_line_that_begins_with_a_dash_is_an_option_unless_removed(commit: str) -> None:
    text = captured(f"help-{commit}")
    heads = [line for line in text.splitlines() if line.startswith("-") and not line.startswith("-----")]
    assert len(heads) == len(parse_help(text)) + text.count("the argument has been removed")
    assert len(heads) > 240


@pytest.mark.parametrize("commit", [PINNED, OTHER])
@pytest.mark.parametrize(
    ("spelling", "hint", "default"),
    [
        ("-c", "N", "0"),
        ("--n-gpu-layers", "N", "auto"),
        ("-C", "M", None),  # a hint of one letter, then padding
        ("--control-vector-layer-range", "START END", None),  # two values
        ("-ot", "<tensor name pattern>=<buffer type>,...", None),  # blanks inside, help on the next line
        ("--no-kv-offload", None, "enabled"),  # four spellings, a switch
        ("--version", None, None),  # one spelling
        ("--cache-ram", "N", "8192"),
        ("--threads", "N", "-1"),
        ("--poll", "<0...100>", "50"),
    ],
)
def test_heads_of_every_shape(commit: str, spelling: str, hint: str | None, default: str | None) -> None:
    option = options(commit)[spelling]
    assert (hint, default) == (option.hint, option.default)


@pytest.mark.parametrize(
    ("spelling", "values"),
    [
        ("--load-mode", ("auto", "none", "mmap", "mlock", "mmap+mlock", "dio")),  # bullets
        ("--split-mode", ("none", "layer", "row", "tensor")),  # braces
        ("--cpu-strict", ("0", "1")),  # angles
        ("-ctk", ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")),  # a sentence
        ("--numa", ("distribute", "isolate", "numactl")),
        ("--reasoning-format", ("none", "deepseek", "deepseek-legacy", "auto")),  # the default is no bullet
        ("-dev", ()),  # <dev1,dev2,..> is an example
        ("-ts", ()),
        ("-m", ()),
    ],
)
def test_values_where_the_help_lists_them(spelling: str, values: tuple[str, ...]) -> None:
    assert values == options(PINNED)[spelling].values


def test_the_two_engines_differ_where_plans_must_care() -> None:
    pinned, other = able(PINNED), able(OTHER)
    assert (pinned.has("--load-mode"), other.has("--load-mode")) == (True, True)
    assert (pinned.has("--no-mmap"), other.has("--no-mmap")) == (False, True)
    assert (pinned.has("--log-jsonl"), other.has("--log-jsonl")) == (True, False)
    assert (pinned.has("--kv-unified-per-slot"), other.has("--kv-unified-per-slot")) == (True, False)


def test_a_flag_that_is_listed_as_removed_is_not_there() -> None:
    assert "--draft-max" in captured(f"help-{PINNED}")
    assert not able(PINNED).has("--draft-max")


def test_which_values_a_flag_takes() -> None:
    pinned = able(PINNED)
    assert pinned.takes("--load-mode", "dio")
    assert not pinned.takes("--load-mode", "floppy")
    assert pinned.takes("--ctx-size", "4096")
    assert not pinned.takes("--no-such-flag", "1")


@pytest.mark.parametrize(
    "text", ["", "Usage: frobnicate [OPTION]...\n", "error: unknown argument\n", "-\n--\n"]
)
def test_a_help_of_something_else_has_no_options(text: str) -> None:
    assert parse_help(text) == ()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            captured(f"version-{PINNED}"),
            Version(text="0.5.0-dev", build=0, commit=PINNED, compiler="GNU 12.2.0 for Linux x86_64"),
        ),
        (
            captured(f"version-{OTHER}"),
            Version(text="0.1.0-dev", build=1, commit=OTHER, compiler="GNU 11.4.0 for Linux x86_64"),
        ),
        (
            "ggml_cuda_init: found 1 CUDA devices\nversion: 8123 (7e4c0a9b)\nbuilt with cc 13.2 for x86_64\n",
            Version(text="8123", build=8123, commit="7e4c0a9b", compiler="cc 13.2 for x86_64"),
        ),
        ("version: 0 (unknown)\n", Version(text="0", build=0, commit=None, compiler=None)),
        ("bash, version five\n", None),
        ("", None),
    ],
)
def test_versions(text: str, version: Version | None) -> None:
    assert version == parse_version(text)
