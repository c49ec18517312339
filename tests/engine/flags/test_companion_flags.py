"""Flags that load something beside the model."""

from __future__ import annotations

import pytest

from launcher.engine.flags.companion_flags import (
    is_companion_flag,
    names_remote_file,
    read_companions,
    with_local_file,
)
from launcher.errors import UsageError
from launcher.plan.amounts import HOST
from launcher.plan.companions import CompanionRequest, DraftRequest, ProjectorRequest
from launcher.plan.expert_pattern import EXPERTS
from launcher.plan.modes import CacheType, TensorOverride


def test_nothing_beside() -> None:
    assert read_companions(("--seed", "-1", "--jinja", "-devd", "CUDA0")) == CompanionRequest()


def test_a_draft_model_with_everything() -> None:
    flags = (
        "--model-draft", "d.gguf", "-ngld", "12", "--spec-draft-device", "CUDA1,CUDA0", "-ctkd", "q8_0", "-ctvd", "bf16",
        "-otd", "attn=CPU,ffn=CUDA1", "-cmoed", "-ncmoed", "2", "--spec-type", "draft-simple,ngram-cache",
    )  # fmt: skip
    assert read_companions(flags) == CompanionRequest(
        draft=DraftRequest(
            path="d.gguf",
            devices=("CUDA1", "CUDA0"),
            n_gpu_layers=12,
            cache_type_k=CacheType.Q8_0,
            cache_type_v=CacheType.BF16,
            overrides=(
                TensorOverride(pattern="attn", where=HOST),
                TensorOverride(pattern="ffn", where="CUDA1"),
                TensorOverride(pattern=EXPERTS, where=HOST),
                TensorOverride(pattern=r"blk\.0" + EXPERTS, where=HOST),
                TensorOverride(pattern=r"blk\.1" + EXPERTS, where=HOST),
            ),
        ),
        spec_types=("draft-simple", "ngram-cache"),
        n_draft=8,
        head_length=3,
    )


@pytest.mark.parametrize(
    ("flags", "n_draft"),
    [
        (("-md", "d.gguf"), 0),
        (("-md", "d.gguf", "--spec-type", "draft-simple"), 3),
        (("--spec-draft-n-max", "16", "--spec-type", "draft-simple"), 16),
        (("--spec-default",), 64),
        (("--spec-type", "ngram-mod", "--spec-ngram-mod-n-max", "20"), 20),
        (("--spec-type", "none,ngram-simple"), 0),
        (("--spec-type", "ngram-simple", "--spec-type", "draft-simple"), 48),
    ],
)
def test_drafted_tokens(flags: tuple[str, ...], n_draft: int) -> None:
    assert read_companions(flags).n_draft == n_draft


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        ((), None),
        (("-mmdev", "CUDA1"), "CUDA1"),
        (("-mmdev", "none"), HOST),
        (("--no-mmproj-offload",), HOST),
        (("--no-mmproj-offload", "--mmproj-offload"), None),
    ],
)
def test_where_a_projector_goes(flags: tuple[str, ...], where: str | None) -> None:
    requests = read_companions(("-mm", "v.gguf", *flags, "--image-max-tokens", "512"))
    assert requests.projector == ProjectorRequest(path="v.gguf", where=where, image_max_tokens=512)


@pytest.mark.parametrize(
    "flags",
    [
        ("-md",),
        ("-ctkd", "q3_k"),
        ("-ngld", "some"),
        ("-devd", ""),
        ("-mmdev", "CUDA0,CUDA1"),
        ("--spec-type", "guess"),
        ("--spec-draft-n-max", "few"),
        ("-otd", "attn"),
        ("-ncmoed", "-1"),
        ("--no-mmproj-offload", "yes"),
    ],
)
def test_what_llama_server_would_refuse_is_refused(flags: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=flags[0]):
        read_companions(flags)


@pytest.mark.parametrize(
    ("flags", "path"),
    [
        (("-hfd", "user/repo:Q8_0"), "hf:user/repo:Q8_0"),
        (("-hfd", "user/repo:Q8_0", "-md", "folder/d.gguf"), "hf:user/repo/folder/d.gguf"),
        (("-md", "d.gguf", "--hf-repo-draft", "user/repo"), "hf:user/repo/d.gguf"),
    ],
)
def test_a_draft_repo_and_a_file_of_it(flags: tuple[str, ...], path: str) -> None:
    assert read_companions(flags).draft == DraftRequest(path=path)


def test_what_was_brought_here_takes_the_place_of_what_named_it() -> None:
    flags = (
        "--jinja",
        "-hfrd",
        "user/repo",
        "--model-draft",
        "d.gguf",
        "-mmu",
        "https://h/mm.gguf",
        "-devd",
        "none",
    )
    assert names_remote_file(flags)
    local = with_local_file(with_local_file(flags, "-md", "/d"), "-mm", "/mm", ("--image-max-tokens", "9"))
    assert local == ("--jinja", "-devd", "none", "-md", "/d", "--mmproj", "/mm", "--image-max-tokens", "9")
    assert not names_remote_file(local)


@pytest.mark.parametrize(
    ("value", "layers"),
    [("auto", None), ("all", None), ("-1", None), ("0", 0), ("1", 1), ("99", 99)],
)
def test_layers_of_a_draft_model_on_its_devices(value: str, layers: int | None) -> None:
    draft = read_companions(("-md", "d.gguf", "-ngld", value)).draft
    assert draft == DraftRequest(path="d.gguf", n_gpu_layers=layers)


@pytest.mark.parametrize(("value", "blocks"), [("0", 0), ("1", 1), ("512", 512), ("1000000000", 512)])
def test_experts_of_the_first_blocks_stay_on_the_host(value: str, blocks: int) -> None:
    draft = read_companions(("-md", "d.gguf", "-ncmoed", value)).draft
    assert draft is not None
    assert len(draft.overrides) == blocks


@pytest.mark.parametrize(
    ("name", "read"),
    [("-md", True), ("-mm", True), ("--spec-type", True), ("--spec-draft-n-max", True), ("--jinja", False)],
)
def test_flags_of_companions_are_known_by_name(name: str, *, read: bool) -> None:
    assert is_companion_flag(name) is read
