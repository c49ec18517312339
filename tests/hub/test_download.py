from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest

from launcher.engine.find import Engine
from launcher.errors import NotFound, TryAgain
from launcher.hub.download import pull
from launcher.hub.endpoint import Endpoint
from launcher.hub.located import Located
from launcher.hub.repo import open_repo
from launcher.hub.store import HubStore
from launcher.model import ModelRef, RefKind
from launcher.progress import Step
from tests.fakes.hub import FakeHub, Fault, Seen
from tests.tiny_gguf import tiny_gguf, tiny_split

REPO = "user/repo"
SHARDS = tiny_split("UD-Q4_K_XL/big-UD-Q4_K_XL", 3, n_values=300_000)
TOTAL = sum(map(len, SHARDS.values()))


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
    """Blobs that are not whole shards."""
    blobs = endpoint.cache_dir.glob("models--*/blobs/*")
    return [blob.name for blob in blobs if blob.read_bytes() not in SHARDS.values()]


def test_exactly_the_shards_arrive_in_the_shared_cache(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    steps: list[Step] = []
    paths = pull(located, endpoint=endpoint, store=store, on_progress=steps.append)
    assert list(SHARDS.values()) == contents(paths)
    assert list(SHARDS) == ["/".join(path.parts[-2:]) for path in paths]
    for name, path in zip(SHARDS, paths, strict=True):
        assert str(path) == huggingface_hub.try_to_load_from_cache(REPO, name, cache_dir=endpoint.cache_dir)
    pulled = [step.done for step in steps if step.phase == "pull"]
    assert (sorted(pulled), TOTAL, {TOTAL}) == (pulled, pulled[-1], {step.total for step in steps})
    assert [step.done for step in steps if step.phase == "verify"][-1] == TOTAL
    assert len(hub.asked("storage")) == 3


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


def test_a_damaged_file_in_the_cache_is_removed_and_fetched_again(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    paths = pull(located, endpoint=endpoint, store=store)
    with paths[1].open("r+b") as file:
        file.seek(500_000)
        file.write(b"damage")
    with pytest.raises(TryAgain, match=r"00002-of-00003\.gguf of user/repo has the sha256"):
        pull(located, endpoint=endpoint, store=store)
    assert [path.exists() for path in paths] == [True, False, True]
    assert list(SHARDS.values()) == contents(pull(located, endpoint=endpoint, store=store))


def test_a_short_file_in_the_cache_is_fetched_again(
    located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    paths = pull(located, endpoint=endpoint, store=store)
    os.truncate(paths[2], 1000)
    assert list(SHARDS.values()) == contents(pull(located, endpoint=endpoint, store=store))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(drop_after=700_000, times=1),
        Fault(drop_after=0, times=2),
        Fault(stall_after=300_000, times=1),
        Fault(status=429, retry_after="0", times=1),
        Fault(status=408, times=1),
        Fault(where="resolve", status=500, times=1),
        Fault(bytes_per_s=20_000_000),
    ],
    ids=repr,
)
def test_passing_trouble_ends_with_the_right_bytes(
    *,
    hub: FakeHub,
    located: Located,
    endpoint: Endpoint,
    store: HubStore,
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    hub.faults.append(fault)
    assert list(SHARDS.values()) == contents(pull(located, endpoint=endpoint, store=store))
    assert leftovers(endpoint) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(drop_after=700_000, reset=True), "cannot be reached|did not arrive"),
        (Fault(truncate_to=700_000), "did not arrive whole"),
        (Fault(flip_at=500_000), "has the sha256"),
        (Fault(status=500), "answered 500"),
        (Fault(status=429, retry_after="3600"), "asks to wait 3600 s"),
        (Fault(where="resolve", status=503, retry_after="3600"), "asks to wait 3600 s"),
        (Fault(status=416), "answered 416"),
        (Fault(status=403), "denies access"),
    ],
    ids=repr,
)
def test_lasting_trouble_ends_with_one_sentence_and_no_wrong_file(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, fault: Fault, message: str
) -> None:
    hub.faults.append(replace(fault, match="00002-of-00003"))
    with pytest.raises((TryAgain, NotFound), match=message) as caught:
        pull(located, endpoint=endpoint, store=store)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert leftovers(endpoint) == []
    hub.faults.clear()
    assert list(SHARDS.values()) == contents(pull(located, endpoint=endpoint, store=store))


def test_another_hash_than_listed_is_never_accepted(
    hub: FakeHub, endpoint: Endpoint, store: HubStore
) -> None:
    hub.publish(REPO, {"x-Q8_0.gguf": tiny_gguf()}, claimed_sha256={"x-Q8_0.gguf": "0" * 64})
    located = open_repo(ModelRef(kind=RefKind.HUB, name=REPO), endpoint=endpoint, store=store)
    for _ in range(2):
        with pytest.raises(TryAgain, match="has the sha256"):
            pull(located, endpoint=endpoint, store=store)
    assert list(endpoint.cache_dir.glob("models--*/blobs/*")) == []


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


def test_a_disk_that_fills_meanwhile_is_named(located: Located, endpoint: Endpoint, store: HubStore) -> None:
    """The library's write fails as on a full disk; what it leaves is removed."""

    def full(step: Step) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(TryAgain, match="ran full") as caught:
        pull(located, endpoint=endpoint, store=store, on_progress=full)
    assert str(endpoint.cache_dir) in (caught.value.hint or "")
    assert leftovers(endpoint) == []


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


@pytest.mark.parametrize(("how", "n_partial"), [(signal.SIGINT, 0), (signal.SIGKILL, 1)])
def test_a_pull_that_is_ended_keeps_whole_shards_only(
    *,
    hub: FakeHub,
    located: Located,
    endpoint: Endpoint,
    store: HubStore,
    how: signal.Signals,
    n_partial: int,
) -> None:
    """In the middle of the second shard. After Ctrl-C no partial file stays, after kill -9 one that never counts."""
    stalled = threading.Event()
    hub.on_request = lambda seen: stalled.set() if "00002" in seen.path and seen.host == "storage" else None
    hub.faults.append(Fault(stall_after=100_000, match="00002-of-00003"))
    program = f"""
import pathlib, sys
from launcher.hub.download import pull
from launcher.hub.endpoint import Endpoint
from launcher.hub.repo import open_repo
from launcher.hub.store import HubStore
from launcher.model import ModelRef, RefKind
endpoint = Endpoint(url={hub.url!r}, token=None, cache_dir=pathlib.Path({str(endpoint.cache_dir)!r}))
store = HubStore(folder=pathlib.Path({str(store.folder)!r}))
ref = ModelRef(kind=RefKind.HUB, name={REPO!r}, quant="UD-Q4_K_XL")
pull(open_repo(ref, endpoint=endpoint, store=store), endpoint=endpoint, store=store)
"""
    running = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    assert stalled.wait(30)
    running.send_signal(how)
    _, said = running.communicate(timeout=30)
    assert (b"KeyboardInterrupt" in said) == (how == signal.SIGINT)
    assert [name.rpartition(".")[2] for name in leftovers(endpoint)] == ["incomplete"] * n_partial
    assert len(list(endpoint.cache_dir.glob("models--*/snapshots/*/*/*"))) == 1
    hub.faults.clear()
    hub.on_request = lambda _: None
    assert list(SHARDS.values()) == contents(pull(located, endpoint=endpoint, store=store))


def test_offline_takes_the_cache_or_says_so(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    offline = replace(endpoint, offline=True)
    with pytest.raises(NotFound, match="may not be asked"):
        pull(located, endpoint=offline, store=store)
    assert hub.seen == []
    paths = pull(located, endpoint=endpoint, store=store)
    assert paths == pull(located, endpoint=offline, store=store)


@pytest.mark.engine
def test_the_real_llama_server_finds_what_was_pulled(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, engine: Engine
) -> None:
    """Without a network, by the repo's name: it gets as far as the tensors, which the tiny model lacks."""
    paths = pull(located, endpoint=endpoint, store=store)
    hub.seen.clear()
    done = subprocess.run(
        [engine.path, "-hf", f"{REPO}:UD-Q4_K_XL", "--offline", "--port", "0", "-lv", "4"],
        env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(endpoint.cache_dir)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    assert str(paths[0]) in done.stdout.decode()
    assert hub.seen == []
