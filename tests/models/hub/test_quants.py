"""Which files of a repo a quant or a file name means."""

from __future__ import annotations

import pytest

from launcher.errors import NotFound, UsageError
from launcher.gguf.model import Shard
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.quants import draft_head_beside, list_quants, pick_files, projector_beside
from launcher.models.hub.repo import list_repo, open_repo
from launcher.models.refs import ModelRef
from launcher.models.store import HubStore, Listing
from tests.fakes.hub import FakeHub
from tests.models.hub.test_repo import FILES, Q4, Q8, REPO, ref


@pytest.fixture
def commit(hub: FakeHub) -> str:
    return hub.publish(REPO, FILES)


@pytest.mark.parametrize(
    ("wanted", "label"),
    [
        (ref("q8_0"), "Q8_0"),
        (ref("UD-Q4_K_XL"), "UD-Q4_K_XL"),
        (ref("Q4_K_XL"), "UD-Q4_K_XL"),
        (ref(file="big-Q8_0.gguf"), "Q8_0"),
        (ref(file="mmproj-F16.gguf"), "mmproj-F16.gguf"),
        (ref(file="UD-Q4_K_XL/big-UD-Q4_K_XL-00002-of-00003.gguf"), "UD-Q4_K_XL"),
        (ref(), "Q8_0"),
    ],
)
def test_what_is_wanted_is_picked(
    *, hub: FakeHub, commit: str, endpoint: Endpoint, store: HubStore, wanted: ModelRef, label: str
) -> None:
    listing = list_repo(wanted, endpoint=endpoint, store=store)
    assert label == pick_files(listing, wanted).label


def test_a_folder_whose_name_is_no_quant_can_be_picked(
    hub: FakeHub, endpoint: Endpoint, store: HubStore
) -> None:
    hub.publish(REPO, {"R1-UD-Q2/x-Q2_K.gguf": Q8, "other/x-Q2_K.gguf": Q8})
    listing = list_repo(ref(), endpoint=endpoint, store=store)
    assert pick_files(listing, ref("R1-UD-Q2")).names == ("R1-UD-Q2/x-Q2_K.gguf",)
    with pytest.raises(UsageError, match="2 models"):
        pick_files(listing, ref("Q2_K"))


@pytest.mark.parametrize(
    ("files", "wanted", "message", "hint"),
    [
        (FILES, ref("UD-Q4_K_XS"), "has no UD-Q4_K_XS", f"launcher plan {REPO}:UD-Q4_K_XL"),
        (FILES, ref("F32"), "has no F32", "Q8_0, UD-Q4_K_XL"),
        (FILES, ref(file="x.gguf"), r"has no x\.gguf", "it has"),
        ({"README.md": b"x"}, ref(), "has no GGUF model", "launcher search repo"),
        (
            dict(list(Q4.items())[:2]),
            ref("Q4_K_XL"),
            "lacks 1 of its shards",
            "launcher plan user/repo:QUANT",
        ),
    ],
)
def test_what_is_not_there_is_named_with_what_is(
    *,
    hub: FakeHub,
    endpoint: Endpoint,
    store: HubStore,
    files: dict[str, bytes],
    wanted: ModelRef,
    message: str,
    hint: str,
) -> None:
    hub.publish(REPO, files)
    with pytest.raises(NotFound, match=message) as caught:
        open_repo(wanted, endpoint=endpoint, store=store)
    assert hint in (caught.value.hint or "")


def listing_of(*files: tuple[str, int]) -> Listing:
    shards = tuple(Shard(name=name, size_bytes=size) for name, size in files)
    return Listing(repo="u/r", commit="d" * 40, revision=None, files=shards)


def test_a_projector_and_a_draft_head_in_the_repo_are_offered() -> None:
    listing = listing_of(
        ("m-Q8_0.gguf", 9), ("mmproj-F16.gguf", 1), ("mmproj-Q8_0.gguf", 1), ("MTP/m-Q8_0-MTP.gguf", 1)
    )
    [head] = draft_head_beside(listing, pick_files(listing, ref()))
    assert "MTP/m-Q8_0-MTP.gguf: `-- --spec-type draft-mtp -hfd u/r`" in head
    assert projector_beside(listing, pick_files(listing, ref())) == "mmproj-Q8_0.gguf"
    itself = pick_files(listing, ref(file="mmproj-F16.gguf"))
    assert (draft_head_beside(listing, itself), projector_beside(listing, itself)) == ((), None)


def test_a_matrix_is_told_from_a_model_of_the_same_name_by_its_size() -> None:
    matrix = listing_of(("m-Q4_K_M.gguf", 4000), ("m-Q8_0-imatrix.gguf", 8))
    assert [group.label for group in list_quants(matrix)] == ["Q4_K_M"]
    model = listing_of(("m-Q4_K_M.gguf", 4000), ("m-Q8_0-imatrix.gguf", 8000))
    assert [group.label for group in list_quants(model)] == ["Q4_K_M", "Q8_0"]


def test_a_repo_without_a_model_says_what_it_has() -> None:
    with pytest.raises(NotFound, match="has no GGUF model") as caught:
        pick_files(listing_of(("mmproj-F16.gguf", 1)), ref())
    assert "it has mmproj-F16.gguf" in (caught.value.hint or "")


def test_a_projector_asked_for_in_another_folder_is_found_by_its_name() -> None:
    with pytest.raises(NotFound) as caught:
        pick_files(
            listing_of(("Q6_K/m-Q6_K.gguf", 9), ("mmproj-F32.gguf", 1)), ref(file="Q6_K/mmproj-F32.gguf")
        )
    assert caught.value.hint == "it lies at mmproj-F32.gguf there"
