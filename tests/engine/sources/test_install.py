"""Installs from a releases API on loopback: every fault ends in the right engine or in one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.engine.find import SERVER, EngineSource, find_engine, read_engines
from launcher.engine.sources.fit import HostFacts, NvidiaCard
from launcher.engine.sources.install import _gather, install_engine
from launcher.engine.sources.release import ReleaseSource
from launcher.engine.sources.releases import LOOK_UP, OFFICIAL, Server, server_of
from launcher.errors import (
    EngineFailed,
    HashMismatch,
    LauncherError,
    NotAllowed,
    NotFound,
    TryAgain,
    UsageError,
)
from launcher.machine.machine import Backend
from tests.engine.sources.archives import RUNS, SCRIPT, TAG, engine_archive, entry, pack
from tests.fakes.releases import Releases, serve_releases

CPU = f"llama-{TAG}-bin-ubuntu-x64.tar.gz"
VULKAN = f"llama-{TAG}-bin-ubuntu-vulkan-x64.tar.gz"
CUDA = f"llama-{TAG}-bin-ubuntu-cuda-13.4-x64.tar.gz"
CUDART = f"cudart-llama-{TAG}-bin-ubuntu-cuda-13.4-x64.tar.gz"
FACTS = HostFacts(system="linux", arch="x64", glibc=(2, 39), libstdcxx=33, has_vulkan=True)
NVIDIA = replace(FACTS, nvidia=(NvidiaCard(driver=(580, 1), capability=(8, 9)),))
LISTS_CUDA = SCRIPT.format(build=11026, devices='echo "  CUDA0: NVIDIA L4 (22000 MiB, 21000 MiB free)"')
LISTS_NONE = RUNS


@pytest.fixture
def releases() -> Iterator[Releases]:
    with serve_releases() as running:
        running.published[TAG] = {CPU: engine_archive(), VULKAN: engine_archive()}
        yield running


def source(releases: Releases, facts: HostFacts = FACTS, *, tag: str | None = None, token: str | None = None):
    policy = replace(LOOK_UP, backoff_s=0.01)
    return ReleaseSource(server=Server(url=releases.url, token=token, policy=policy), facts=facts, tag=tag)


def install(releases: Releases, engines: Path, facts: HostFacts = FACTS, *, tag: str | None = None) -> Path:
    where = source(releases, facts, tag=tag)
    last: EngineFailed | None = None
    for offer in where.find():
        try:
            return install_engine(where, offer, engines).folder
        except EngineFailed as error:
            last = error
    raise last or AssertionError("no offer")


def nothing_half(engines: Path) -> None:
    assert read_engines(engines) == ()
    left = [path for path in engines.glob("*") if path.name not in {".locks", ".downloads"}]
    assert left == []


def test_the_right_archive_is_verified_unpacked_tried_and_recorded(
    releases: Releases, tmp_path: Path
) -> None:
    folder = install(releases, tmp_path)
    engine = find_engine(None, None, tmp_path)
    assert engine.source is EngineSource.INSTALLED
    assert engine.build is not None
    assert engine.build.origin is not None
    assert not engine.is_built_here
    assert (engine.build.version, engine.build.commit, engine.build.backend) == (TAG, "0c1e570", Backend.CPU)
    assert engine.build.origin.file.endswith(CPU)
    assert folder.name.startswith(f"{TAG}-cpu-")
    assert not (tmp_path / ".downloads").exists()
    n_requests = len(releases.requests)
    assert install(releases, tmp_path) == folder  # asked for again: looked up, and not fetched
    assert not any("storage" in path for path in releases.requests[n_requests:])
    assert releases.requests[n_requests:].count(f"/download/{TAG}/{CPU}") == 0


def test_the_pointer_of_the_latest_release_is_followed(releases: Releases, tmp_path: Path) -> None:
    releases.published["b11030"] = {CPU.replace(TAG, "b11030"): engine_archive()}
    releases.pointer = b"b11026\n"
    assert install(releases, tmp_path).name.startswith("b11026-")


@pytest.mark.parametrize("pointer", [None, bytes(1 << 20), b"b1" * 80, b"master\n", b"b99999\n", b""])
def test_a_pointer_that_is_none_leaves_the_newest_build(
    releases: Releases, tmp_path: Path, pointer: bytes | None
) -> None:
    releases.pointer = pointer
    releases.published = {"b9": {"llama-b9-bin-ubuntu-x64.tar.gz": b"old"}, **releases.published}
    assert install(releases, tmp_path).name.startswith(f"{TAG}-")


def test_latest_is_the_newest_build_whatever_the_pointer_says(releases: Releases, tmp_path: Path) -> None:
    releases.pointer = b"b9\n"
    assert install(releases, tmp_path, tag="latest").name.startswith(f"{TAG}-")


def test_a_release_whose_files_are_still_on_their_way_is_passed_over(
    releases: Releases, tmp_path: Path
) -> None:
    releases.published["b11099"] = {"llama-b11099-bin-macos-arm64.tar.gz": b"x"}
    assert install(releases, tmp_path, tag="latest").name.startswith(f"{TAG}-")


def test_renamed_assets(releases: Releases, tmp_path: Path) -> None:
    releases.published[TAG] = {f"llama.cpp-{TAG}-linux-cpu-x86_64.tgz": engine_archive()}
    assert install(releases, tmp_path).name.startswith(f"{TAG}-cpu-")
    releases.published[TAG] = {"engine-of-the-day.tar.gz": engine_archive()}
    with pytest.raises(EngineFailed, match="no archive of b11026 runs on this machine") as caught:
        install(releases, tmp_path / "other")
    assert caught.value.hint == "launcher engine build makes one"


def test_cuda_gets_its_own_libraries_beside_it(releases: Releases, tmp_path: Path) -> None:
    cudart = pack(
        entry("libcudart.so.13", b"cudart"),
        entry("libcublas.so.13", b"cublas"),
        entry("licences/CUDA_LICENSE.txt", b"NVIDIA's"),
    )
    releases.published[TAG] |= {CUDA: engine_archive(LISTS_CUDA), CUDART: cudart}
    folder = install(releases, tmp_path, NVIDIA)
    assert folder.name.startswith(f"{TAG}-cuda-")
    assert (folder / "libcudart.so.13").read_bytes() == b"cudart"
    assert (folder / "libcublas.so.13").exists()
    assert (folder / "CUDA_LICENSE.txt").read_bytes() == b"NVIDIA's"
    assert (folder / "LICENSE").read_bytes() == b"MIT"


def test_an_archive_that_runs_and_sees_no_gpu_does_not_count(releases: Releases, tmp_path: Path) -> None:
    releases.published[TAG] |= {CUDA: engine_archive(LISTS_NONE)}
    folder = install(releases, tmp_path, NVIDIA)
    assert folder.name.startswith(f"{TAG}-cpu-")  # Vulkan lists none either
    assert len(read_engines(tmp_path)) == 1


def test_what_is_better_and_does_not_run_is_said_before_the_download(releases: Releases) -> None:
    releases.published[TAG] |= {CUDA: engine_archive(LISTS_CUDA)}
    offer = source(releases, replace(NVIDIA, glibc=(2, 36))).find()[0]
    assert offer.notes == ("CUDA 13.4 needs glibc 2.39, here is 2.36",)
    assert offer.backend is Backend.VULKAN
    assert releases.headers["storage"] == []


@pytest.mark.parametrize("status", [403, 429])
def test_the_rate_limit_says_when_it_ends(releases: Releases, tmp_path: Path, status: int) -> None:
    releases.limited = status
    with pytest.raises(TryAgain, match=r"no more requests from this address until \d\d:\d\d:\d\d") as caught:
        install(releases, tmp_path)
    assert "launcher engine install wheel" in str(caught.value.hint)


def test_a_limit_without_its_end_is_a_refusal(releases: Releases, tmp_path: Path) -> None:
    releases.status = 403
    with pytest.raises(NotAllowed, match="it answered 403"):
        install(releases, tmp_path)


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_in_trouble(releases: Releases, tmp_path: Path, status: int) -> None:
    releases.status = status
    with pytest.raises(TryAgain, match=f"it answered {status}"):
        install(releases, tmp_path)


def test_no_such_release(releases: Releases, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not have the release b7"):
        install(releases, tmp_path, tag="b7")


@pytest.mark.parametrize(
    "body", [b"<html>log in</html>", b"{}", b"[]", b"[" * 100_000, b"\xff", bytes(9 << 20)]
)
def test_an_answer_that_is_none(releases: Releases, tmp_path: Path, body: bytes) -> None:
    releases.body = body
    with pytest.raises(LauncherError) as caught:
        install(releases, tmp_path)
    assert isinstance(caught.value, TryAgain | NotFound)
    assert len(caught.value.message) < 300


def test_without_a_sha256_nothing_is_fetched(releases: Releases, tmp_path: Path) -> None:
    releases.without_digest = True
    with pytest.raises(HashMismatch, match="lists no sha256"):
        install(releases, tmp_path)
    assert releases.headers["storage"] == []


def test_a_wrong_sha256_is_fetched_once_more_and_never_used(releases: Releases, tmp_path: Path) -> None:
    releases.wrong_digest = True
    with pytest.raises(HashMismatch, match="arrived twice with the sha256"):
        install(releases, tmp_path)
    nothing_half(tmp_path)


def test_a_download_that_breaks_off_once_is_continued(releases: Releases, tmp_path: Path) -> None:
    noise = os.urandom(300_000)
    releases.published[TAG][CPU] = engine_archive(more=[entry(f"llama-{TAG}/noise", noise)])
    releases.break_off_once_at = 200_000
    assert (install(releases, tmp_path) / "noise").read_bytes() == noise


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("#!/bin/sh\nexit 3\n", "ended with status 3"),
        ("#!/bin/sh\necho hello\n", "is no llama-server"),
        ("#!/bin/sh\nkill -ILL $$\n", "built for another processor"),
        (
            '#!/bin/sh\necho "llama-server: /lib/libc.so.6: version \\`GLIBC_2.99\' not found" >&2; exit 1\n',
            "it needs GLIBC_2.99, which is not here",
        ),
        (
            SCRIPT.format(build=9, devices="true"),
            "was listed as b11026, and its llama-server calls itself b9",
        ),
    ],
)
def test_an_engine_that_does_not_run_does_not_count(
    releases: Releases, tmp_path: Path, script: str, words: str
) -> None:
    releases.published[TAG] = {CPU: engine_archive(script)}
    with pytest.raises(EngineFailed) as caught:
        install(releases, tmp_path)
    assert words in caught.value.message
    nothing_half(tmp_path)


def test_a_hostile_archive_with_the_right_sha256(releases: Releases, tmp_path: Path) -> None:
    releases.published[TAG] = {CPU: engine_archive(more=[entry("../planted", b"1")])}
    with pytest.raises(UsageError, match="would leave the folder"):
        install(releases, tmp_path / "engines")
    nothing_half(tmp_path / "engines")
    assert not (tmp_path / "planted").exists()


def test_an_archive_without_a_server(releases: Releases, tmp_path: Path) -> None:
    releases.published[TAG] = {CPU: pack(entry("llama-b11026/LICENSE", b"MIT"))}
    with pytest.raises(UsageError, match="has no llama-server"):
        install(releases, tmp_path)
    nothing_half(tmp_path)


def test_the_token_goes_to_the_api_and_not_to_where_it_redirects(releases: Releases, tmp_path: Path) -> None:
    where = source(releases, token="secret-token")
    install_engine(where, where.find()[0], tmp_path)
    api, storage = releases.headers["api"], releases.headers["storage"]
    looked_up = [headers for headers in api if "Authorization" in headers]
    assert [headers["Authorization"] for headers in looked_up] == ["Bearer secret-token"] * len(looked_up)
    assert looked_up
    assert storage
    assert not any("Authorization" in headers for headers in storage)
    written = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*.json"))
    assert "secret" not in written


def test_githubs_token_is_for_github() -> None:
    assert server_of({"GITHUB_TOKEN": "t"}) == Server(url=OFFICIAL, token="t")
    mirror = server_of({"GITHUB_TOKEN": "t", "LAUNCHER_RELEASES": "https://mirror.example/releases/"})
    assert (mirror.url, mirror.token) == ("https://mirror.example/releases", None)
    with pytest.raises(UsageError, match=r"LAUNCHER_RELEASES is mirror\.example/x, which is no web address"):
        server_of({"LAUNCHER_RELEASES": "mirror.example/x"})


def test_the_record_holds_who_built_it_and_what_it_came_from(releases: Releases, tmp_path: Path) -> None:
    record = json.loads((install(releases, tmp_path) / "engine.json").read_text())
    assert record["origin"]["kind"] == "release"
    assert record["origin"]["made_by"] == "whoever runs 127.0.0.1"
    assert len(record["origin"]["sha256"]) == 64


def test_a_link_that_would_lead_elsewhere_from_the_engines_folder_is_left(tmp_path: Path) -> None:
    # a library from another folder of the archive is brought beside the program; such a link stays
    below = tmp_path / "unpacked/a/b/c/d"
    engine = tmp_path / "unpacked/bin"
    for folder in (below, engine):
        folder.mkdir(parents=True)
    (engine / SERVER).touch()
    (below / "libreal.so.1").touch()
    (below / "libnear.so").symlink_to("libreal.so.1")
    (below / "libfar.so").symlink_to("../../../../bin/llama-server")
    assert _gather(tmp_path / "unpacked") == engine
    assert sorted(path.name for path in engine.iterdir()) == ["libnear.so", "libreal.so.1", SERVER]
    assert (engine / "libnear.so").resolve() == engine / "libreal.so.1"
