from __future__ import annotations

import pytest

from launcher.errors import BadGguf, UsageError
from launcher.gguf.file_names import (
    MAX_SHARDS,
    FileGroup,
    ShardName,
    group_all,
    group_files,
    is_model_file,
    model_name,
    pick_group,
    pick_head,
    quant_label,
    shard_name,
)


def test_a_shards_name_is_taken_apart_and_put_together() -> None:
    shard = shard_name("UD-TQ1_0/Kimi-K2.5-UD-TQ1_0-00002-of-00005.gguf")
    assert shard == ShardName(stem="UD-TQ1_0/Kimi-K2.5-UD-TQ1_0", index=2, count=5)
    assert shard.sibling(5) == "UD-TQ1_0/Kimi-K2.5-UD-TQ1_0-00005-of-00005.gguf"
    assert len(shard.all_names()) == 5


@pytest.mark.parametrize(
    "name",
    [
        "model.gguf",
        "m-00000-of-00003.gguf",
        "m-00004-of-00003.gguf",
        "m-1-of-3.gguf",
        "m-00001-of-00003.gguf.part",
        "Kimi-K3-IQ2_XXS-Q2_K.gguf.part-01-of-05",
    ],
)
def test_other_names_are_no_shards(name: str) -> None:
    assert shard_name(name) is None


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("UD-TQ1_0/Kimi-K2.5-UD-TQ1_0-00001-of-00005.gguf", "UD-TQ1_0"),
        ("UD-Q2_K_XL/Kimi-K2.5-UD-Q2_K_XL-00001-of-00008.gguf", "UD-Q2_K_XL"),
        ("DeepSeek-R1-UD-Q2_K_XL/DeepSeek-R1-UD-Q2_K_XL-00001-of-00005.gguf", "UD-Q2_K_XL"),
        ("Q4_X/Kimi-K2.5-Q4_X-00001-of-00014.gguf", "Q4_X"),
        ("IQ4_KS_R4/DeepSeek-R1-0528-IQ4_KS_R4-00001-of-00009.gguf", "IQ4_KS_R4"),
        ("Qwen3-235B-A22B-mix-IQ3_K-00001-of-00003.gguf", "IQ3_K"),
        ("smol-IQ2_KS/Kimi-K2-smol-IQ2_KS-00001-of-00006.gguf", "smol-IQ2_KS"),
        ("DeepSeek-R1-0528-THIREUS-BF16-SPECIAL_TENSOR-00001-of-01148.gguf", "BF16"),
        ("gpt-oss-120b-mxfp4-00001-of-00003.gguf", "MXFP4"),
        ("gpt-oss-20b-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("smollm2-360m-instruct-q8_0.gguf", "Q8_0"),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("Qwen3-8B.i1-IQ1_M.gguf", "IQ1_M"),
        ("gemma-3-270m-it-UD-IQ2_M.gguf", "UD-IQ2_M"),
        ("Llama-3.2-1B-Instruct-Q6_K_L.gguf", "Q6_K_L"),
        ("Phi-3-mini-4k-instruct-fp16.gguf", "F16"),
        ("model-f32.gguf", "F32"),
        ("Q4_K_M/model-00001-of-00002.gguf", "Q4_K_M"),
        ("Qwen3-235B-A22B-128K.gguf", None),
        ("model.gguf", None),
    ],
)
def test_the_quant_that_a_name_claims(name: str, label: str | None) -> None:
    assert quant_label(name) == label


@pytest.mark.parametrize(
    "name",
    [
        "mmproj-BF16.gguf",
        "Kimi-K2.5-mmproj-f16.gguf",
        "imatrix_unsloth.gguf",
        "imatrix_unsloth.dat",
        "mtp-Qwen3.6-27B-Q4_0.gguf",
        "MTP/model-mtp-draft-Q8_0.gguf",
        "eagle3-gpt-oss-120b.gguf",
        "Kimi-K3-IQ2_XXS-Q2_K.gguf.part-01-of-05",
        "README.md",
    ],
)
def test_sidecars_are_no_models(name: str) -> None:
    assert not is_model_file(name)


def shards(stem: str, count: int, *, without: tuple[int, ...] = (), size: int = 10) -> list[tuple[str, int]]:
    return [
        (f"{stem}-{index:05d}-of-{count:05d}.gguf", size)
        for index in range(1, count + 1)
        if index not in without
    ]


def test_a_repo_is_put_into_models() -> None:
    files = [
        *reversed(shards("UD-TQ1_0/K-UD-TQ1_0", 3)),
        ("K-Q4_0.gguf", 100),
        ("mmproj-F16.gguf", 1),
        ("README.md", 5),
        *shards("BF16/K-BF16", 4, without=(2, 3), size=500),
    ]
    groups = group_files(files)
    assert [(group.label, group.size_bytes) for group in groups] == [
        ("UD-TQ1_0", 30),
        ("Q4_0", 100),
        ("BF16", 1000),
    ]
    assert groups[0].names[0] == "UD-TQ1_0/K-UD-TQ1_0-00001-of-00003.gguf"
    assert groups[0].is_complete
    assert (groups[2].n_missing, groups[2].first_missing) == (2, "BF16/K-BF16-00002-of-00004.gguf")


def test_projectors_and_heads_stand_after_the_models_by_their_names() -> None:
    files = [("mmproj-F16.gguf", 1), ("README.md", 5), ("K-Q4_0.gguf", 100), ("mtp-K-Q8_0.GGUF", 2)]
    assert [(group.label, group.files) for group in group_all(files)] == [
        ("Q4_0", (("K-Q4_0.gguf", 100),)),
        ("mmproj-F16.gguf", (("mmproj-F16.gguf", 1),)),
        ("mtp-K-Q8_0.GGUF", (("mtp-K-Q8_0.GGUF", 2),)),
    ]


@pytest.mark.parametrize(("without", "first"), [((3,), 3), ((2, 3), 2), ((1,), 1), ((), None)])
def test_the_first_shard_that_is_missing_is_named(without: tuple[int, ...], first: int | None) -> None:
    (group,) = group_files(shards("K-Q4_0", 3, without=without))
    assert (group.n_missing, group.is_complete) == (len(without), first is None)
    assert group.first_missing == ("" if first is None else f"K-Q4_0-{first:05d}-of-00003.gguf")


def test_a_file_without_a_quant_is_called_by_its_name() -> None:
    assert [group.label for group in group_files([("sub/model.gguf", 1)])] == ["model"]
    assert [group.label for group in group_files(shards("sub/model", 2))] == ["model"]


KIMI = group_files(
    [
        *shards("UD-TQ1_0/K-UD-TQ1_0", 5),
        *shards("UD-Q2_K_XL/K-UD-Q2_K_XL", 8),
        *shards("UD-Q4_K_XL/K-UD-Q4_K_XL", 13),
        *shards("Q4_K_M/K-Q4_K_M", 13, size=9),
    ]
)


@pytest.mark.parametrize(
    ("wanted", "label"),
    [
        ("UD-Q2_K_XL", "UD-Q2_K_XL"),
        ("ud-q2_k_xl", "UD-Q2_K_XL"),
        ("Q2_K_XL", "UD-Q2_K_XL"),
        ("TQ1_0", "UD-TQ1_0"),
        ("INT4", "UD-Q4_K_XL"),
        ("int4", "UD-Q4_K_XL"),
        ("UD-TQ1_0", "UD-TQ1_0"),
        ("UD-TQ1_0/K-UD-TQ1_0-00003-of-00005.gguf", "UD-TQ1_0"),
        ("K-UD-TQ1_0-00001-of-00005.gguf", "UD-TQ1_0"),
        (None, "Q4_K_M"),
    ],
)
def test_a_quant_is_found_by_what_people_call_it(wanted: str | None, label: str) -> None:
    group = pick_group(KIMI, wanted)
    assert group is not None
    assert group.label == label


def test_a_lossless_repack_is_int4_before_any_other() -> None:
    group = pick_group((*KIMI, *group_files(shards("Q4_X/K-Q4_X", 14))), "INT4")
    assert group is not None
    assert group.label == "Q4_X"


def test_an_old_folder_is_a_name_too() -> None:
    groups = group_files([*shards("DeepSeek-R1-UD-Q2_K_XL/DeepSeek-R1-UD-Q2_K_XL", 5), ("D-Q8_0.gguf", 3)])
    assert pick_group(groups, "DeepSeek-R1-UD-Q2_K_XL") is groups[1]


def test_nothing_matches_nothing() -> None:
    assert pick_group(KIMI, "Q9_9") is None
    assert pick_group((), None) is None
    assert pick_group((), "Q4_0") is None


def test_without_a_wish_the_only_one_or_llama_cpps_choice() -> None:
    only = group_files([("m-IQ1_S.gguf", 1)])
    assert pick_group(only, None) == only[0]
    small = group_files([("m-Q8_0.gguf", 8), ("m-IQ1_S.gguf", 1)])
    assert pick_group(small, None) == FileGroup(label="Q8_0", files=(("m-Q8_0.gguf", 8),))
    odd = group_files([("m-Q5_0.gguf", 8), ("m-IQ1_S.gguf", 1)])
    assert pick_group(odd, None) == odd[0]


def test_a_complete_set_wins_over_a_broken_one() -> None:
    groups = group_files(shards("K-Q4_0", 3, without=(2,)) + shards("Q4_0/K-Q4_0", 4))
    picked = pick_group(groups, "Q4_0")
    assert picked is not None
    assert picked.names[0].startswith("Q4_0/")


@pytest.mark.parametrize(("first", "second"), [("broken", "whole"), ("whole", "broken")])
def test_a_complete_set_wins_in_any_order(first: str, second: str) -> None:
    sets = {"whole": shards("whole/K-Q4_0", 4), "broken": shards("broken/K-Q4_0", 4, without=(2,), size=9)}
    groups = sorted(
        group_files(sets["whole"] + sets["broken"]), key=lambda group: not group.names[0].startswith(first)
    )
    assert [group.names[0].partition("/")[0] for group in groups] == [first, second]
    picked = pick_group(groups, "Q4_0")
    assert picked is not None
    assert picked.names[0].startswith("whole/")


def test_the_most_shards_that_any_model_has_are_named() -> None:
    most = ShardName(stem="m", index=1, count=MAX_SHARDS)
    assert most.all_names()[-1] == f"m-{MAX_SHARDS:05d}-of-{MAX_SHARDS:05d}.gguf"
    with pytest.raises(BadGguf, match=f"one of {MAX_SHARDS + 1} shards"):
        ShardName(stem="m", index=1, count=MAX_SHARDS + 1).all_names()


def test_two_models_of_one_quant_are_ambiguous() -> None:
    groups = group_files([("a-Q4_0.gguf", 1), ("b-Q4_0.gguf", 2)])
    with pytest.raises(UsageError, match=r"2 models here: a-Q4_0\.gguf, b-Q4_0\.gguf"):
        pick_group(groups, "Q4_0")
    assert pick_group(groups, "b-Q4_0.gguf") is groups[1]


def test_the_head_of_a_draft_repo_is_the_nearest_of_the_first_kind() -> None:
    names = ("d-Q8_0.gguf", "eagle3-d-Q4_0.gguf", "eagle3-d-Q8_0.gguf", "mtp-d-BF16.gguf", "mtp-notes.md")
    assert pick_head(names, ("mtp", "eagle3"), None) == ("mtp", "mtp-d-BF16.gguf")
    assert pick_head(names, ("eagle3",), "q8_0") == ("eagle3", "eagle3-d-Q8_0.gguf")
    assert pick_head(names, ("eagle3",), None) == ("eagle3", "eagle3-d-Q4_0.gguf")
    assert pick_head(names, ("dflash",), None) is None


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("UD-TQ1_0/K-UD-TQ1_0-00001-of-00005.gguf", "K-UD-TQ1_0"),
        ("m.Q4_0.gguf", "m.Q4_0"),
        ("m.GGUF", "m"),
        ("plain", "plain"),
    ],
)
def test_what_to_call_a_model(file_name: str, name: str) -> None:
    assert model_name(file_name) == name


def test_twins_of_one_quant_are_told_apart_by_what_follows_it() -> None:
    """unslothai/unsloth#7460: two models of one label; llama-server finds either by a longer part of its name."""
    names = ("M-NEO-Q6_K-MTP.gguf", "M-NEO-Q6_K-PT-MTP.gguf", "M-NEO-Q4_K_M-MTP.gguf")
    groups = group_files((name, 1) for name in names)
    for wanted, name in (("Q6_K-PT-MTP", names[1]), ("q6_k-mtp", names[0]), ("Q4_K_M-MTP", names[2])):
        picked = pick_group(groups, wanted)
        assert picked is not None
        assert picked.names == (name,)
    assert pick_group(groups, "NEO") is None  # it is in every name
    with pytest.raises(UsageError, match="Q6_K names 2 models here"):
        pick_group(groups, "Q6_K")
