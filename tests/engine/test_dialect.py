"""llama.cpp's server told from ik_llama.cpp's, by the captured help of both."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.engine.dialect import check_types, complete, dialect_of
from launcher.engine.flags.command_line import arities_of
from launcher.engine.flags.help_text import Option, parse_help
from launcher.errors import BadGguf
from launcher.gguf.ggml import GgmlType
from launcher.gguf.tensors import TensorInfo
from launcher.plan.modes import Dialect
from tests.engine.flags.captured_help import PINNED_OPTIONS

IK_HELP = Path(__file__).parents[1] / "captures/engine/help-ik-0.1.5.txt"
LISTED = parse_help(IK_HELP.read_text(encoding="utf-8"))
IK_OPTIONS = complete(LISTED)


def option(spelling: str) -> Option:
    return next(option for option in IK_OPTIONS if spelling in option.spellings)


def test_a_server_is_told_by_its_help() -> None:
    assert dialect_of(LISTED) is Dialect.IK
    assert dialect_of(PINNED_OPTIONS) is Dialect.LLAMA_CPP
    assert dialect_of(()) is Dialect.LLAMA_CPP
    assert complete(PINNED_OPTIONS) == PINNED_OPTIONS


def test_indented_options_are_read() -> None:
    assert len(LISTED) > 250
    threads = option("-t")
    assert (threads.spellings, threads.hint) == (("-t", "--threads"), "N")
    assert threads.help.startswith("number of threads to use during generation")
    assert option("-h").hint is None
    assert option("--lookup-cache-static").help.startswith(
        "path to static lookup cache"
    )  # on a line of its own
    assert not any("context hacking:" in each.help for each in IK_OPTIONS)  # headings are no help


def test_what_the_help_leaves_out_is_known() -> None:
    arities = arities_of(IK_OPTIONS)
    takes_one = (
        "-mla",
        "-amb",
        "-ser",
        "-ot",
        "-a",
        "--n-gpu-layers",
        "-ncmoe",
        "-fa",
        "-ctk",
        "-cram-n-min",
    )
    assert {flag: arities[flag] for flag in takes_one} == dict.fromkeys(takes_one, 1)
    switches = ("-rtr", "--run-time-repack", "-cmoe", "--embeddings", "-no-fmoe", "-dr", "--no-mmap", "--fit")
    assert {flag: arities[flag] for flag in switches} == dict.fromkeys(switches, 0)
    listed = arities_of(LISTED)
    assert "-ot" not in listed
    assert listed["-mla"] == 0
    assert "--list-devices" not in arities


def info(type_: GgmlType) -> TensorInfo:
    return TensorInfo(name="blk.0.ffn_up.weight", shape=(256, 2), type=type_, offset=0, size_bytes=1)


@pytest.mark.parametrize(
    ("type_", "dialect", "words"),
    [
        (GgmlType.IQ4_KS, Dialect.LLAMA_CPP, "is IQ4_KS, which only ik_llama.cpp knows"),
        (GgmlType.Q4_K_R4, None, "is Q4_K_R4, which only ik_llama.cpp knows"),
        (GgmlType.NVFP4, Dialect.IK, "is NVFP4, which ik_llama.cpp does not know"),
    ],
)
def test_types_of_the_other_are_refused(type_: GgmlType, dialect: Dialect | None, words: str) -> None:
    with pytest.raises(BadGguf, match=words) as caught:
        check_types("m", [info(GgmlType.Q4_K), info(type_)], dialect)
    assert caught.value.hint


def test_types_of_its_own_and_common_ones_are_loaded() -> None:
    check_types("m", [info(GgmlType.IQ4_KS), info(GgmlType.Q4_K), info(GgmlType.MXFP4)], Dialect.IK)
    check_types("m", [info(GgmlType.NVFP4), info(GgmlType.TQ1_0)], Dialect.LLAMA_CPP)
