"""Files that are on this machine already, plain folders, and what is listed and removed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import NotFound, UsageError
from launcher.models.files import other_programs
from launcher.models.files.plain_folder import lock_path_of
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.kept.list import Stores, list_stored, pick_stored, stores_here
from launcher.models.kept.remove import remove_stored
from launcher.models.kept.stored_model import StoredModel
from launcher.models.located import Located, PullOptions
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import HubStore
from launcher.progress import Step
from tests.fakes.hub import FakeHub, Fault
from tests.pulling import QUICK, UNIT
from tests.tiny_gguf import tiny_gguf, tiny_split

REPO = "user/repo"
SHARDS = tiny_split("Q4/big-Q4_K_M", 2, n_values=100_000)
OTHER = tiny_gguf(seed=9, n_values=50_000)
OPTIONS = PullOptions(tuning=QUICK)


def locate(hub: FakeHub, endpoint: Endpoint, store: HubStore, quant: str = "Q4_K_M") -> Located:
    if REPO not in hub.repos:
        hub.publish(REPO, {**SHARDS, "big-Q8_0.gguf": OTHER})
    ref = ModelRef(kind=RefKind.HUB, name=REPO, quant=quant)
    found = open_repo(ref, endpoint=endpoint, store=store)
    hub.seen.clear()
    return found


@pytest.fixture
def located(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> Located:
    return locate(hub, endpoint, store)


def test_files_of_a_folder_are_verified_and_linked(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """Whatever they are called; one with the right size and other bytes is passed over."""
    folder = tmp_path / "mine"
    folder.mkdir()
    first, second = SHARDS.values()
    (folder / "a.gguf").write_bytes(first)
    (folder / "b.gguf").write_bytes(second[:-40] + bytes(40))
    paths = fetch_hub_files(
        located, endpoint=endpoint, store=store, options=replace(OPTIONS, look_in=(tmp_path,))
    )
    assert list(SHARDS.values()) == [path.read_bytes() for path in paths]
    assert paths[0].samefile(folder / "a.gguf")
    assert {True} == {"00002" in seen.path for seen in hub.asked("storage")}


def test_a_file_of_a_folder_that_cannot_be_read_is_passed_over_and_named(
    *,
    hub: FakeHub,
    located: Located,
    endpoint: Endpoint,
    store: HubStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As another user's are; refused here by name, since root may read everything."""
    folder = tmp_path / "mine"
    folder.mkdir()
    first, second = SHARDS.values()
    (folder / "mine.gguf").write_bytes(first)
    (folder / "theirs.gguf").write_bytes(second)
    open_ = os.open

    def refuse(path: str | Path, flags: int, *mode: int) -> int:
        if str(path).endswith("theirs.gguf"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    steps: list[Step] = []
    options = replace(OPTIONS, look_in=(folder,))
    paths = fetch_hub_files(
        located, endpoint=endpoint, store=store, options=options, on_progress=steps.append
    )
    assert list(SHARDS.values()) == [path.read_bytes() for path in paths]
    assert paths[0].samefile(folder / "mine.gguf")
    said = [step.text for step in steps if step.is_remark]
    assert said == [f"{folder}/theirs.gguf cannot be read: Permission denied; it is not used"]


def test_a_folder_with_blobs_of_its_own_is_searched(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """`blobs` alone does not make it Ollama's."""
    folder = tmp_path / "mine"
    (folder / "blobs").mkdir(parents=True)
    for name, content in SHARDS.items():
        (folder / Path(name).name).write_bytes(content)
    paths = fetch_hub_files(
        located, endpoint=endpoint, store=store, options=replace(OPTIONS, look_in=(folder,))
    )
    assert (list(SHARDS.values()), []) == ([path.read_bytes() for path in paths], hub.seen)


@pytest.mark.parametrize("where", [".ollama/models/blobs/sha256-{}", ".lmstudio/models/u/r/x-{:.3}.gguf"])
def test_stores_of_other_programs_are_looked_into(
    *,
    hub: FakeHub,
    located: Located,
    endpoint: Endpoint,
    store: HubStore,
    clean_environment: Path,
    where: str,
) -> None:
    for content in SHARDS.values():
        path = clean_environment / where.format(hashlib.sha256(content).hexdigest())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert (list(SHARDS.values()), []) == ([path.read_bytes() for path in paths], hub.seen)


def test_what_another_repo_of_the_cache_has_is_linked(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    hub.publish("other/copy", SHARDS)
    ref = ModelRef(kind=RefKind.HUB, name="other/copy", quant="Q4_K_M")
    copy = open_repo(ref, endpoint=endpoint, store=store)
    hub.seen.clear()
    paths = fetch_hub_files(copy, endpoint=endpoint, store=store, options=OPTIONS)
    assert (list(SHARDS.values()), []) == ([path.read_bytes() for path in paths], hub.seen)


def test_a_plain_folder_gets_the_files_under_their_names(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    options = replace(OPTIONS, folder=tmp_path / "plain")
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=options)
    assert [tmp_path / "plain" / name for name in SHARDS] == list(paths)
    assert list(SHARDS.values()) == [path.read_bytes() for path in paths]
    assert not endpoint.cache_dir.exists()
    assert not list(tmp_path.glob("plain/**/*.part*"))
    hub.seen.clear()
    assert paths == fetch_hub_files(located, endpoint=endpoint, store=store, options=options)
    back = fetch_hub_files(
        located, endpoint=endpoint, store=store, options=replace(OPTIONS, look_in=(tmp_path / "plain",))
    )
    assert (hub.seen, True) == ([], back[0].samefile(paths[0]))


def test_verify_reads_again_what_was_found_right(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    steps: list[Step] = []
    again = replace(OPTIONS, verify=True)
    assert paths == fetch_hub_files(
        located, endpoint=endpoint, store=store, options=again, on_progress=steps.append
    )
    assert [step.done for step in steps if step.phase == "verify"][-1] == sum(map(len, SHARDS.values()))


def test_a_linked_file_that_is_damaged_is_let_alone_and_fetched(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """Only our name for it goes: the file is the user's."""
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(next(iter(SHARDS.values())))
    fetch_hub_files(located, endpoint=endpoint, store=store, options=replace(OPTIONS, look_in=(tmp_path,)))
    with mine.open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert list(SHARDS.values()) == [path.read_bytes() for path in paths]
    assert b"damage" in mine.read_bytes()


def test_the_token_goes_to_the_hub_and_not_to_its_storage(
    hub: FakeHub, endpoint: Endpoint, store: HubStore
) -> None:
    hub.token = "hf_secret"
    hub.publish(REPO, {**SHARDS, "big-Q8_0.gguf": OTHER})
    hub.repos[REPO].private = True
    known = replace(endpoint, token="hf_secret")
    fetch_hub_files(locate(hub, known, store), endpoint=known, store=store, options=OPTIONS)
    sent = {(seen.host, seen.authorization) for seen in hub.seen}
    assert sent == {("hub", "Bearer hf_secret"), ("storage", None)}


def test_downloads_go_through_the_proxy_of_the_environment(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that only the proxy (here the storage host itself) can know; loopback is excepted by NO_PROXY."""
    monkeypatch.setenv("http_proxy", hub.storage_url.replace("http://", "http://me:pw@"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    hub.storage_url = "http://storage.test"
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert list(SHARDS.values()) == [path.read_bytes() for path in paths]
    assert {True} == {seen.path.startswith("http://storage.test/") for seen in hub.asked("storage")}


def stores(endpoint: Endpoint, tmp_path: Path) -> Stores:
    return Stores(hub_cache=endpoint.cache_dir, models_dir=tmp_path / "models", ollama=(tmp_path / "ollama",))


def listed(endpoint: Endpoint, store: HubStore, tmp_path: Path) -> dict[str, StoredModel]:
    return {one.name: one for one in list_stored(stores(endpoint, tmp_path), store)}


def test_whole_and_partial_models_are_listed(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    assert listed(endpoint, store, tmp_path) == {}
    fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    q8 = locate(hub, endpoint, store, "Q8_0")

    def stop(step: Step) -> None:
        if step.file and step.done > UNIT:
            raise KeyboardInterrupt

    hub.faults.append(Fault(bytes_per_s=400_000, match="Q8_0"))
    with pytest.raises(KeyboardInterrupt):
        fetch_hub_files(q8, endpoint=endpoint, store=store, options=OPTIONS, on_progress=stop)
    kept = listed(endpoint, store, tmp_path)
    size = sum(map(len, SHARDS.values()))
    whole, part = kept[f"{REPO}:Q4_K_M"], kept[f"{REPO}:Q8_0"]
    assert (whole.is_whole, whole.here_bytes, whole.size_bytes) == (True, size, size)
    assert (part.is_whole, part.size_bytes) == (False, len(OTHER))
    assert UNIT <= part.here_bytes < len(OTHER)
    assert remove_stored(part, store) > 0
    assert list(listed(endpoint, store, tmp_path)) == [f"{REPO}:Q4_K_M"]


def test_removing_frees_what_nothing_else_uses(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """A second commit has the first shard too; one quant goes, then the rest."""
    fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    fetch_hub_files(locate(hub, endpoint, store, "Q8_0"), endpoint=endpoint, store=store, options=OPTIONS)
    old = listed(endpoint, store, tmp_path)[f"{REPO}:Q4_K_M"]
    first, second = SHARDS.items()
    hub.publish(
        REPO, {first[0]: first[1], second[0]: tiny_split("x", 2, n_values=100_000, seed=4).popitem()[1]}
    )
    fetch_hub_files(locate(hub, endpoint, store), endpoint=endpoint, store=store, options=OPTIONS)
    assert remove_stored(old, store) == len(second[1])
    left = list_stored(stores(endpoint, tmp_path), store)
    assert sorted((one.name, one.is_whole) for one in left) == [
        (f"{REPO}:Q4_K_M", True),
        (f"{REPO}:Q8_0", True),
    ]
    freed = sum(remove_stored(one, store) for one in left)
    assert freed == len(first[1]) + len(second[1]) + len(OTHER)
    assert list(endpoint.cache_dir.glob("models--*")) == []


def test_removing_a_link_leaves_the_file(
    *, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    for name, content in SHARDS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    fetch_hub_files(located, endpoint=endpoint, store=store, options=replace(OPTIONS, look_in=(folder,)))
    assert remove_stored(listed(endpoint, store, tmp_path)[f"{REPO}:Q4_K_M"], store) == 0
    assert [(folder / name).read_bytes() for name in SHARDS] == list(SHARDS.values())


def test_ollamas_models_are_listed_and_not_removed(
    endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    digest = hashlib.sha256(OTHER).hexdigest()
    manifests = tmp_path / "ollama/manifests/registry.ollama.ai/library/tiny"
    manifests.mkdir(parents=True)
    layer = {
        "mediaType": "application/vnd.ollama.image.model",
        "digest": f"sha256:{digest}",
        "size": len(OTHER),
    }
    (manifests / "1b").write_text(json.dumps({"layers": [layer]}))
    (manifests / "broken").write_text("{")
    blob = tmp_path / "ollama/blobs" / f"sha256-{digest}"
    blob.parent.mkdir()
    blob.write_bytes(OTHER)
    kept = list_stored(stores(endpoint, tmp_path), store)
    assert [(one.name, one.store, one.is_whole) for one in kept] == [("tiny:1b", "ollama", True)]
    with pytest.raises(UsageError, match="belongs to ollama"):
        pick_stored(kept, ["tiny"])
    with pytest.raises(NotFound, match="there is no huge"):
        pick_stored(kept, ["huge"])


def test_last_used_is_the_last_start_where_the_file_system_does_not_know(
    *, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """As with noatime; and verifying a file is no use of it."""
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    for path in paths:
        os.utime(path, (1000.0, path.stat().st_mtime))
    fetch_hub_files(located, endpoint=endpoint, store=store, options=replace(OPTIONS, verify=True))
    assert listed(endpoint, store, tmp_path)[f"{REPO}:Q4_K_M"].used_at == 1000.0
    before = time.time()
    store.keep_used(paths[0])
    used_at = listed(endpoint, store, tmp_path)[f"{REPO}:Q4_K_M"].used_at
    assert used_at is not None
    assert before <= used_at <= time.time()


def test_a_folder_of_ollamas_with_two_names_is_one(
    *, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "named").symlink_to(tmp_path / "service")
    monkeypatch.setattr(other_programs, "_OLLAMA_SERVICE", tmp_path / "service")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "named"))
    assert stores_here(endpoint.cache_dir, tmp_path / "models").ollama == (tmp_path / "named",)
    assert other_programs.other_stores(endpoint.cache_dir).count(tmp_path / "named") == 1
    assert tmp_path / "service" not in other_programs.other_stores(endpoint.cache_dir)


def test_removing_leaves_the_lock_to_whoever_holds_it_next(
    endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """A pull that opened the lock's file while this held it waits for that very file."""
    folder = tmp_path / "models" / "x"
    folder.mkdir(parents=True)
    part = folder / "m-Q8_0.gguf.part"
    part.write_bytes(OTHER)
    (one,) = list_stored(stores(endpoint, tmp_path), store)
    lock = lock_path_of(folder / "m-Q8_0.gguf")
    lock.parent.mkdir()
    lock.touch()
    before = lock.stat().st_ino
    assert remove_stored(one, store) > 0
    assert (lock.stat().st_ino, part.exists()) == (before, False)
