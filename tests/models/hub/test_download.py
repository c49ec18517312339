"""Downloads of a repo's files: what arrives, what trouble leads to, what is never accepted."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import namedtuple
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import huggingface_hub
import pytest

from launcher.errors import HashMismatch, NotFound, TryAgain
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.located import Located, PullOptions
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import HubStore
from launcher.progress import OnProgress, Step, silent
from launcher.system.network.request import Answer
from launcher.system.network.trouble import Trouble
from launcher.units import KIB
from tests.fakes.hub import FakeHub, Fault, Seen
from tests.moe_shards import moe_shards
from tests.pulling import QUICK
from tests.tiny_gguf import tiny_gguf, tiny_split

REPO = "user/repo"
SHARDS = moe_shards("UD-Q4_K_XL/big-UD-Q4_K_XL")
TOTAL = sum(map(len, SHARDS.values()))


def pull(
    located: Located,
    *,
    endpoint: Endpoint,
    store: HubStore,
    on_progress: OnProgress = silent,
    options: PullOptions | None = None,
) -> tuple[Path, ...]:
    options = options or PullOptions(tuning=QUICK)
    return fetch_hub_files(located, endpoint=endpoint, store=store, options=options, on_progress=on_progress)


@pytest.fixture
def located(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> Located:
    hub.publish(REPO, {**SHARDS, "big-Q8_0.gguf": tiny_gguf(), "README.md": b"x"})
    found = open_repo(
        ModelRef(kind=RefKind.HUB, name=REPO, quant="UD-Q4_K_XL"), endpoint=endpoint, store=store
    )
    hub.seen.clear()
    return found


def contents(paths: tuple[Path, ...]) -> list[bytes]:
    return [path.read_bytes() for path in paths]


def leftovers(endpoint: Endpoint) -> list[str]:
    """Blobs that are not whole shards, and no partial ones that can be gone on with."""
    blobs = endpoint.cache_dir.glob("models--*/blobs/*")
    whole = [blob.name for blob in blobs if blob.read_bytes() in SHARDS.values()]
    return [
        blob.name
        for blob in endpoint.cache_dir.glob("models--*/blobs/*")
        if blob.name not in whole and not blob.name.endswith((".part", ".part.journal"))
    ]


def test_exactly_the_shards_arrive_in_the_shared_cache(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    steps: list[Step] = []
    paths = pull(located, endpoint=endpoint, store=store, on_progress=steps.append)
    assert list(SHARDS.values()) == contents(paths)
    assert list(SHARDS) == ["/".join(path.parts[-2:]) for path in paths]
    for name, path in zip(SHARDS, paths, strict=True):
        assert str(path) == huggingface_hub.try_to_load_from_cache(REPO, name, cache_dir=endpoint.cache_dir)
    pulled = [step.done for step in steps if not step.file]
    totals = {step.total for step in steps if not step.file}
    assert (sorted(pulled), TOTAL, {TOTAL}) == (pulled, pulled[-1], totals)
    assert set(SHARDS) | {""} >= {step.file for step in steps}
    assert {"pull"} == {step.phase for step in steps}
    assert leftovers(endpoint) == []
    assert list(endpoint.cache_dir.glob("models--*/blobs/*.part*")) == []


def test_a_second_pull_asks_and_hashes_nothing(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    paths = pull(located, endpoint=endpoint, store=store)
    hub.seen.clear()
    steps: list[Step] = []
    assert paths == pull(located, endpoint=endpoint, store=store, on_progress=steps.append)
    assert (hub.seen, steps) == ([], [])


def test_what_others_downloaded_is_verified_once_and_not_fetched(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    commit = located.model.source.partition("@")[2]
    for name in SHARDS:
        huggingface_hub.hf_hub_download(
            REPO, name, revision=commit, cache_dir=endpoint.cache_dir, endpoint=hub.url, token=False
        )
    hub.seen.clear()
    steps: list[Step] = []
    paths = pull(located, endpoint=endpoint, store=store, on_progress=steps.append)
    assert (list(SHARDS.values()), []) == (contents(paths), hub.seen)
    assert {"verify"} == {step.phase for step in steps}


def test_a_damaged_file_in_the_cache_is_fetched_again(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    paths = pull(located, endpoint=endpoint, store=store)
    with paths[1].open("r+b") as file:
        file.seek(500_000)
        file.write(b"damage")
    steps: list[Step] = []
    again = pull(located, endpoint=endpoint, store=store, on_progress=steps.append)
    assert list(SHARDS.values()) == contents(again)
    (said,) = [step.text for step in steps if step.is_remark]
    assert re.fullmatch(
        rf"{paths[1]} is damaged: its sha256 is \w+…, the Hub says \w+…; it is fetched again", said
    )


def test_offline_a_damaged_file_is_named_and_kept(
    located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    """Even where size and time are as they were."""
    paths = pull(located, endpoint=endpoint, store=store)
    before = paths[1].stat()
    with paths[1].open("r+b") as file:
        file.seek(500_000)
        file.write(b"damage")
    os.utime(paths[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    found = hashlib.sha256(paths[1].read_bytes()).hexdigest()
    offline = replace(endpoint, offline=True)
    for options in (PullOptions(verify=True), PullOptions()):  # found once, it is not trusted again
        with pytest.raises(
            HashMismatch, match=f"{paths[1]} is damaged: its sha256 is {found[:12]}"
        ) as caught:
            pull(located, endpoint=offline, store=store, options=options)
        assert "HF_HUB_OFFLINE it is fetched anew" in (caught.value.hint or "")
        assert hashlib.sha256(paths[1].read_bytes()).hexdigest() == found
    assert list(SHARDS.values()) == contents(pull(located, endpoint=endpoint, store=store))


def test_a_short_file_in_the_cache_is_fetched_again(
    located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    paths = pull(located, endpoint=endpoint, store=store)
    os.truncate(paths[2], 1000)
    assert list(SHARDS.values()) == contents(pull(located, endpoint=endpoint, store=store))


FAULTS = [
    Fault(drop_after=100_000, times=3),
    Fault(drop_after=0, times=2),
    Fault(drop_after=100_000, reset=True, times=3),
    Fault(drop_after=70_000, reset=True),
    Fault(truncate_to=100_000, times=3),
    Fault(truncate_to=70_000),
    Fault(length_off=5_000, times=2),
    Fault(length_off=5_000),
    Fault(length_off=-5_000, times=2),
    Fault(stall_after=30_000, times=2),
    Fault(status=429, retry_after="0", times=2),
    Fault(status=408, times=1),
    Fault(status=503, times=3),
    Fault(status=416, times=1),
    Fault(status=403, times=1),
    Fault(where="resolve", status=500, times=2),
    Fault(flip_at=500_000, times=1),
    Fault(flip_at=500_000, match="00002-of-00003", times=1),
    Fault(ignore_range=True, times=1),
    Fault(ignore_range=True),
    Fault(ignore_range=True, drop_after=1_000_000, times=2),
]


IMPATIENT = PullOptions(tuning=replace(QUICK, patience_s=0.5, attempts=6))
"""For servers that say nothing: the others get the time that a busy machine needs."""


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_passing_trouble_ends_with_the_right_bytes(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, fault: Fault
) -> None:
    hub.faults.append(fault)
    options = IMPATIENT if fault.stall_after is not None else None
    paths = pull(located, endpoint=endpoint, store=store, options=options)
    assert list(SHARDS.values()) == contents(paths)
    assert leftovers(endpoint) == []


def test_a_slow_server_is_asked_for_little_at_once_and_what_comes_is_seen(
    hub: FakeHub, endpoint: Endpoint, store: HubStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends 64 KiB twice a second: reads that grew to more than is there shrink again."""
    hub.publish(REPO, shards := tiny_split("big-Q4_K_M", 3, n_values=75_000))
    located = open_repo(ModelRef(kind=RefKind.HUB, name=REPO), endpoint=endpoint, store=store)
    hub.faults.append(Fault(bytes_per_s=128 * KIB))
    asked: dict[Answer, list[int]] = {}
    read_into = Answer.read_into

    def watched(answer: Answer, buffer: memoryview) -> int | Trouble:
        asked.setdefault(answer, []).append(len(buffer))
        return read_into(answer, buffer)

    monkeypatch.setattr(Answer, "read_into", watched)
    steps: list[Step] = []
    tuning = replace(QUICK, unit_bytes=256 * KIB, buffer_bytes=256 * KIB, span_bytes=512 * KIB)
    options = PullOptions(tuning=tuning)
    paths = pull(located, endpoint=endpoint, store=store, on_progress=steps.append, options=options)
    assert contents(paths) == list(shards.values())
    for sizes in asked.values():
        assert (64 * KIB, 32 * KIB) in pairwise(sizes)
    for name in ("", *shards):
        under_way = [step for step in steps if step.file == name and 0 < step.done < (step.total or 0)]
        assert len({step.done for step in under_way}) > 1


def test_a_busy_server_is_named_while_it_is_waited_for(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    hub.faults.append(Fault(status=503, times=1))
    steps: list[Step] = []
    pull(located, endpoint=endpoint, store=store, on_progress=steps.append)
    assert "server busy (503), trying again in 1 s" in [step.text for step in steps if step.is_remark]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(drop_after=0, reset=True), "did not arrive whole"),
        (Fault(truncate_to=0), "did not arrive whole: it broke off at byte"),
        (Fault(length_off=-(1 << 30)), "did not arrive whole: it broke off at byte"),
        (Fault(length_off=-100), "did not arrive whole: it broke off at byte"),
        (Fault(stall_after=0), "did not arrive whole: it said nothing for too long"),
        (Fault(flip_at=500_000), "has the sha256"),
        (Fault(status=500), "did not arrive whole: it answered 500"),
        (Fault(status=429, retry_after="3600"), "asks to wait 3600 s"),
        (Fault(where="resolve", status=503, retry_after="3600"), "asks to wait 3600 s"),
        (Fault(status=416), "answered 416"),
        (Fault(status=403), "denies access"),
        (Fault(where="resolve", status=403), "denies access"),
        (Fault(where="resolve", status=404), "has no repo|there is no"),
    ],
    ids=repr,
)
def test_lasting_trouble_ends_with_one_sentence_and_no_wrong_file(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, fault: Fault, message: str
) -> None:
    hub.faults.append(replace(fault, match="00002-of-00003"))
    options = IMPATIENT if fault.stall_after is not None else None
    with pytest.raises((TryAgain, NotFound), match=message) as caught:
        pull(located, endpoint=endpoint, store=store, options=options)
    assert "\n" not in caught.value.message
    assert "sig=" not in caught.value.message
    assert caught.value.hint
    assert leftovers(endpoint) == []
    hub.faults.clear()
    assert list(SHARDS.values()) == contents(pull(located, endpoint=endpoint, store=store))


def test_links_that_expire_are_made_anew(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    hub.uses_of_a_link = 2
    assert list(SHARDS.values()) == contents(pull(located, endpoint=endpoint, store=store))
    assert len(hub.asked("hub", match="resolve")) > len(SHARDS)


def test_a_file_of_another_size_than_listed_is_refused(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    first = located.model.shards[0]
    model = replace(located.model, shards=(replace(first, size_bytes=1000), *located.model.shards[1:]))
    with pytest.raises(TryAgain, match="1000 were listed"):
        pull(replace(located, model=model), endpoint=endpoint, store=store)
    assert leftovers(endpoint) == []


def test_a_file_outside_lfs_is_named_by_git_as_the_library_does(
    hub: FakeHub, endpoint: Endpoint, store: HubStore
) -> None:
    hub.publish(REPO, {"tiny-Q8_0.gguf": tiny_gguf()})
    commit = next(iter(hub.repos[REPO].commits))
    file = hub.repos[REPO].commits[commit]["tiny-Q8_0.gguf"]
    hub.repos[REPO].commits[commit]["tiny-Q8_0.gguf"] = replace(file, lfs=False)
    located = open_repo(ModelRef(kind=RefKind.HUB, name=REPO), endpoint=endpoint, store=store)
    (path,) = pull(located, endpoint=endpoint, store=store)
    assert (path.read_bytes(), file.git_oid) == (tiny_gguf(), path.resolve().name)
    hub.seen.clear()
    again = huggingface_hub.hf_hub_download(
        REPO, "tiny-Q8_0.gguf", cache_dir=endpoint.cache_dir, endpoint=hub.url, token=False
    )
    assert (str(path), []) == (again, hub.asked("hub", "GET"))


def test_another_hash_than_listed_is_never_accepted(
    hub: FakeHub, endpoint: Endpoint, store: HubStore
) -> None:
    _, second, _ = SHARDS
    hub.publish(REPO, SHARDS, claimed_sha256={second: "0" * 64})
    located = open_repo(ModelRef(kind=RefKind.HUB, name=REPO), endpoint=endpoint, store=store)
    for _ in range(2):
        with pytest.raises(TryAgain, match=f"{second} .*has the sha256"):
            pull(located, endpoint=endpoint, store=store)
    assert not list(endpoint.cache_dir.glob(f"models--*/blobs/{'0' * 64}*"))
    assert not list(endpoint.cache_dir.glob(f"models--*/snapshots/*/{second}"))
    assert leftovers(endpoint) == []


def test_the_pinned_commit_is_fetched_when_the_branch_moves_meanwhile(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    def move(_: Seen) -> None:
        hub.on_request = lambda _: None
        hub.publish(REPO, tiny_split("UD-Q4_K_XL/big-UD-Q4_K_XL", 3, n_values=10, seed=5))

    hub.on_request = move
    assert list(SHARDS.values()) == contents(pull(located, endpoint=endpoint, store=store))


def test_a_full_disk_is_refused_before_the_first_byte(
    *,
    hub: FakeHub,
    located: Located,
    endpoint: Endpoint,
    store: HubStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 (what shutil returns)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, TOTAL * 102 // 100 - 100))
    with pytest.raises(TryAgain, match=r"needs 3\.5 MiB .* which has 3\.5 MiB free") as caught:
        pull(located, endpoint=endpoint, store=store)
    assert "HF_HUB_CACHE" in (caught.value.hint or "")
    assert hub.seen == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, TOTAL * 102 // 100 + 100))
    pull(located, endpoint=endpoint, store=store)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 0))
    pull(located, endpoint=endpoint, store=store)


def test_partial_files_of_killed_downloads_are_removed_when_old(
    located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    sha256 = located.model.shards[0].sha256
    blobs = endpoint.cache_dir / "models--user--repo" / "blobs"
    blobs.mkdir(parents=True)
    old, new = blobs / f"{sha256}.aaaaaaaa.incomplete", blobs / f"{sha256}.bbbbbbbb.incomplete"
    for orphan in (old, new):
        orphan.write_bytes(b"x")
    os.utime(old, (1, 1))
    pull(located, endpoint=endpoint, store=store)
    assert [new.name] == leftovers(endpoint)


def test_offline_takes_the_cache_or_says_so(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    offline = replace(endpoint, offline=True)
    with pytest.raises(NotFound, match="may not be asked"):
        pull(located, endpoint=offline, store=store)
    assert hub.seen == []
    paths = pull(located, endpoint=endpoint, store=store)
    assert paths == pull(located, endpoint=offline, store=store)
