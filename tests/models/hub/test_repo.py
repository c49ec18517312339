"""A repo's listing: from the Hub, from the cache, and what a Hub in trouble leads to."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import LauncherError, NotAllowed, NotFound, TryAgain, UsageError
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.quants import list_quants
from launcher.models.hub.repo import list_repo, open_repo
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import HubStore
from tests.fakes.hub import FakeHub, Fault
from tests.pulling import QUICK_READS
from tests.tiny_gguf import tiny_gguf, tiny_split

REPO = "user/repo"
IMPATIENT = replace(QUICK_READS, patience_s=0.3)
Q8 = tiny_gguf(n_values=100_000)
Q4 = tiny_split("UD-Q4_K_XL/big-UD-Q4_K_XL", 3, n_values=80_000)
FILES = {"README.md": b"# x\n", "big-Q8_0.gguf": Q8, "mmproj-F16.gguf": tiny_gguf(), **Q4}


def ref(quant: str | None = None, *, file: str | None = None, revision: str | None = None) -> ModelRef:
    return ModelRef(kind=RefKind.HUB, name=REPO, quant=quant, file=file, revision=revision)


@pytest.fixture
def commit(hub: FakeHub) -> str:
    return hub.publish(REPO, FILES)


def test_a_repo_lists_its_quants_by_size(
    hub: FakeHub, commit: str, endpoint: Endpoint, store: HubStore
) -> None:
    hub.page_size = 2
    listing = list_repo(ref(), endpoint=endpoint, store=store)
    assert (commit, "main") == (listing.commit, listing.revision)
    groups = list_quants(listing)
    assert [(group.label, len(group.files)) for group in groups] == [("Q8_0", 1), ("UD-Q4_K_XL", 3)]


def test_a_second_listing_asks_for_the_commit_only(
    hub: FakeHub, commit: str, endpoint: Endpoint, store: HubStore
) -> None:
    first = list_repo(ref(), endpoint=endpoint, store=store)
    hub.seen.clear()
    assert first == list_repo(ref(), endpoint=endpoint, store=store)
    assert [f"/api/models/{REPO}/revision/main"] == [seen.path for seen in hub.seen]
    hub.seen.clear()
    pinned = list_repo(ref(revision=commit), endpoint=endpoint, store=store)
    assert (first.files, None, []) == (pinned.files, pinned.revision, hub.seen)


def test_a_commit_stays_pinned_when_the_branch_moves(
    hub: FakeHub, commit: str, endpoint: Endpoint, store: HubStore
) -> None:
    listing = list_repo(ref(), endpoint=endpoint, store=store)
    hub.publish(REPO, {"big-Q8_0.gguf": tiny_gguf(seed=9)})
    assert commit == listing.commit
    located = open_repo(ref("Q8_0", revision=commit), endpoint=endpoint, store=store)
    assert Q8[: len(located.raw_headers[0])] == located.raw_headers[0]
    assert commit != list_repo(ref(), endpoint=endpoint, store=store).commit


def test_the_token_goes_to_the_hub_and_nowhere_else(
    hub: FakeHub, commit: str, endpoint: Endpoint, store: HubStore
) -> None:
    hub.token = "hf_secret"
    hub.repos[REPO].private = True
    trusted = replace(endpoint, token="hf_secret")
    located = open_repo(ref("Q8_0"), endpoint=trusted, store=store)
    fetch_hub_files(located, endpoint=trusted, store=store)
    assert {"Bearer hf_secret"} == {seen.authorization for seen in hub.asked("hub")}
    assert {None} == {seen.authorization for seen in hub.asked("storage")}


def test_names_that_would_leave_the_cache_do_not_exist(
    hub: FakeHub, endpoint: Endpoint, store: HubStore
) -> None:
    odd = ["../../evil-Q8_0.gguf", "/evil-Q8_0.gguf", "a\\evil-Q8_0.gguf", "ev\x00il-Q8_0.gguf"]
    hub.publish(REPO, dict.fromkeys([*odd, "fine-Q8_0.gguf"], Q8))
    listing = list_repo(ref(), endpoint=endpoint, store=store)
    assert [file.name for file in listing.files] == ["fine-Q8_0.gguf"]


def test_refusals_say_what_to_do(hub: FakeHub, commit: str, endpoint: Endpoint, store: HubStore) -> None:
    def refusal(endpoint: Endpoint, revision: str | None = None, name: str = REPO) -> LauncherError:
        wanted = replace(ref("Q8_0", revision=revision), name=name)
        with pytest.raises(LauncherError) as caught:
            open_repo(wanted, endpoint=endpoint, store=store)
        assert caught.value.hint
        return caught.value

    known = replace(endpoint, token="hf_a")
    assert NotAllowed is type(refusal(endpoint, name="user/none"))
    assert NotFound is type(refusal(known, name="user/none"))
    gone = refusal(endpoint, revision="nope")
    assert (NotFound, True) == (type(gone), "nope" in gone.message)
    hub.repos[REPO].gated = True
    gated = refusal(endpoint)
    assert NotAllowed is type(gated)
    assert f"{hub.url}/{REPO}" in (gated.hint or "")
    assert "HF_TOKEN" in (gated.hint or "")
    gated = refusal(known)
    assert NotAllowed is type(gated)
    assert "run it again" in (gated.hint or "")
    hub.token = "hf_b"
    refused = refusal(known)
    assert (NotAllowed, True) == (type(refused), "refused the token" in refused.message)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(where="api", status=500),
        Fault(where="api", status=429, retry_after="1"),
        Fault(where="api", drop_after=10),
        Fault(where="api", drop_after=0, reset=True),
        Fault(where="api", stall_after=10),
        Fault(where="resolve", status=503),
        Fault(where="storage", status=416),
        Fault(where="storage", status=429),
        Fault(where="storage", drop_after=20),
        Fault(where="storage", drop_after=20, reset=True),
        Fault(where="storage", truncate_to=20),
        Fault(where="storage", stall_after=20),
    ],
    ids=repr,
)
def test_a_hub_in_trouble_is_worth_another_try(
    hub: FakeHub, commit: str, endpoint: Endpoint, store: HubStore, fault: Fault
) -> None:
    hub.faults.append(replace(fault, match="/revision/") if fault.where == "api" else fault)
    with pytest.raises(TryAgain) as caught:
        open_repo(ref("Q8_0"), endpoint=replace(endpoint, policy=IMPATIENT), store=store)
    assert "\n" not in caught.value.message
    hub.faults.clear()
    hub.released.set()
    assert len(open_repo(ref("Q8_0"), endpoint=endpoint, store=store).model.tensors) == 1


def test_what_is_no_hub_is_said_to_be_none(
    hub: FakeHub, commit: str, endpoint: Endpoint, store: HubStore
) -> None:
    hub.faults.append(Fault(where="api", truncate_to=5))
    with pytest.raises(TryAgain, match="does not say"):
        open_repo(ref("Q8_0"), endpoint=endpoint, store=store)
    with pytest.raises(UsageError, match="not the address of a Hub"):
        open_repo(ref("Q8_0"), endpoint=replace(endpoint, url="nonsense"), store=store)


def test_without_a_hub_the_cache_answers(
    hub: FakeHub, commit: str, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    located = open_repo(ref("Q8_0"), endpoint=endpoint, store=store)
    offline = replace(endpoint, offline=True)
    with pytest.raises(NotFound, match="HF_HUB_OFFLINE"):
        open_repo(ref("Q4_K_XL"), endpoint=offline, store=HubStore(folder=tmp_path / "other"))
    (path,) = fetch_hub_files(located, endpoint=endpoint, store=store)
    hub.close()
    assert located == open_repo(ref("Q8_0"), endpoint=offline, store=store)
    for empty in (tmp_path / "1", tmp_path / "2"):
        for where in (offline, endpoint):  # told not to ask; asked in vain
            again = open_repo(ref("Q8_0"), endpoint=where, store=HubStore(folder=empty))
            assert located.model == again.model
            assert (path,) == fetch_hub_files(again, endpoint=where, store=HubStore(folder=empty))
    with pytest.raises(NotFound):
        open_repo(ref("Q4_K_XL"), endpoint=offline, store=HubStore(folder=tmp_path / "3"))


def test_nobody_listening_is_worth_another_try(endpoint: Endpoint, store: HubStore) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(TryAgain, match="cannot be reached"):
            open_repo(ref(), endpoint=replace(endpoint, url=url), store=store)
