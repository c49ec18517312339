"""The local Hub is tested too: by a raw client and by the real huggingface_hub; by the real llama-server in
tests/real/test_hub.py.
"""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from tests.fakes.hub import FakeHub, Fault
from tests.tiny_gguf import tiny_gguf, tiny_split

MODEL = tiny_gguf(n_values=50_000)
NAME = "tiny-Q8_0.gguf"
REPO = "user/repo"


class RawAnswer:
    """One raw answer; `error` is what ended its body early."""

    def __init__(self, url: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> None:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=5)
        connection.request(
            method, parts.path + (f"?{parts.query}" if parts.query else ""), headers=headers or {}
        )
        response = connection.getresponse()
        self.status, self.headers = response.status, response.headers
        self.error: Exception | None = None
        try:
            self.body = response.read()
        except http.client.IncompleteRead as error:
            self.body, self.error = error.partial, error
        except OSError as error:
            self.body, self.error = b"", error
        connection.close()


def resolve(hub: FakeHub, name: str = NAME) -> str:
    return f"{hub.url}/{REPO}/resolve/main/{name}"


def storage_url(hub: FakeHub) -> str:
    return str(RawAnswer(resolve(hub), method="HEAD").headers["Location"])


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running:
        yield running
    huggingface_hub.close_session()


@pytest.fixture(autouse=True)
def repo(hub: FakeHub) -> str:
    return hub.publish(REPO, {NAME: MODEL, "README.md": b"# tiny\n"})


def test_a_file_is_redirected_with_the_hubs_headers(hub: FakeHub, repo: str) -> None:
    answer = RawAnswer(resolve(hub), method="HEAD")
    sha256 = hashlib.sha256(MODEL).hexdigest()
    assert (302, repo) == (answer.status, answer.headers["X-Repo-Commit"])
    assert (f'"{sha256}"', str(len(MODEL))) == (
        answer.headers["X-Linked-Etag"],
        answer.headers["X-Linked-Size"],
    )
    whole = RawAnswer(answer.headers["Location"])
    assert (200, MODEL, f'"{sha256}"') == (whole.status, whole.body, whole.headers["ETag"])


def test_a_small_file_is_served_by_the_hub_itself(hub: FakeHub) -> None:
    answer = RawAnswer(resolve(hub, "README.md"))
    assert (answer.status, answer.body) == (200, b"# tiny\n")
    git_oid = hashlib.sha1(b"blob 7\0# tiny\n").hexdigest()
    assert f'"{git_oid}"' == answer.headers["ETag"]


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-99", 0, 100), ("bytes=100-", 100, len(MODEL)), ("bytes=-50", len(MODEL) - 50, len(MODEL))],
)
def test_ranges(hub: FakeHub, asked: str, start: int, end: int) -> None:
    answer = RawAnswer(storage_url(hub), headers={"Range": asked})
    assert (206, MODEL[start:end]) == (answer.status, answer.body)
    assert f"bytes {start}-{end - 1}/{len(MODEL)}" == answer.headers["Content-Range"]


def test_a_range_outside_is_416(hub: FakeHub) -> None:
    answer = RawAnswer(storage_url(hub), headers={"Range": f"bytes={len(MODEL)}-"})
    assert (416, f"bytes */{len(MODEL)}") == (answer.status, answer.headers["Content-Range"])


def test_files_on_disk_are_served_as_bytes_are(hub: FakeHub, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(MODEL)
    hub.publish(REPO, {NAME: path})
    assert RawAnswer(storage_url(hub)).body == MODEL
    assert MODEL[7:4000] == RawAnswer(storage_url(hub), headers={"Range": "bytes=7-3999"}).body


@pytest.mark.parametrize(
    ("fault", "length", "is_short"),
    [
        (Fault(drop_after=1000), 1000, True),
        (Fault(drop_after=0), 0, True),
        (Fault(truncate_to=500), 500, False),
        (Fault(bytes_per_s=10_000_000), len(MODEL), False),
    ],
)
def test_bodies_that_end_early(hub: FakeHub, fault: Fault, length: int, is_short: bool) -> None:
    hub.faults.append(fault)
    answer = RawAnswer(storage_url(hub))
    assert (MODEL[:length], is_short) == (answer.body, answer.error is not None)


def test_a_reset_ends_the_connection_with_an_error(hub: FakeHub) -> None:
    hub.faults.append(Fault(drop_after=150_000, reset=True))
    assert RawAnswer(storage_url(hub)).error is not None


def test_a_flipped_byte_is_at_its_place_in_every_range(hub: FakeHub) -> None:
    hub.faults.append(Fault(flip_at=100_000))
    damaged = MODEL[:100_000] + bytes([MODEL[100_000] ^ 0xFF]) + MODEL[100_001:]
    assert damaged == RawAnswer(storage_url(hub)).body
    assert damaged[99_999:] == RawAnswer(storage_url(hub), headers={"Range": "bytes=99999-"}).body


def test_a_range_may_be_ignored(hub: FakeHub) -> None:
    hub.faults.append(Fault(ignore_range=True))
    answer = RawAnswer(storage_url(hub), headers={"Range": "bytes=10-19"})
    assert (answer.status, answer.body) == (200, MODEL)


@pytest.mark.parametrize("off", [-10, 10])
def test_a_length_may_be_a_lie(hub: FakeHub, off: int) -> None:
    hub.faults.append(Fault(length_off=off))
    parts = urlsplit(storage_url(hub))
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=5)
    connection.request("GET", f"{parts.path}?{parts.query}", headers={"Range": "bytes=0-99"})
    response = connection.getresponse()
    assert (response.headers["Content-Length"], response.read(90)) == (str(100 + off), MODEL[:90])
    if off > 0:
        assert response.read(10) == MODEL[90:100]
        connection.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            response.read(1)
    connection.close()


@pytest.mark.parametrize("status", [416, 429, 500, 503])
def test_a_status_for_the_first_requests_only(hub: FakeHub, status: int) -> None:
    hub.faults.append(Fault(status=status, retry_after="7", skip=1, times=2))
    url = storage_url(hub)
    answers = [RawAnswer(url) for _ in range(4)]
    assert [200, status, status, 200] == [answer.status for answer in answers]
    assert answers[1].headers["Retry-After"] == "7"


def test_a_stall_lasts_until_it_is_released(hub: FakeHub) -> None:
    hub.faults.append(Fault(stall_after=1000))
    parts = urlsplit(storage_url(hub))
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=0.2)
    connection.request("GET", f"{parts.path}?{parts.query}")
    response = connection.getresponse()
    assert MODEL[:1000] == response.read(1000)
    with pytest.raises(TimeoutError):
        response.read(1)
    hub.released.set()
    connection.close()


def test_links_expire(hub: FakeHub) -> None:
    hub.uses_of_a_link = 1
    url = storage_url(hub)
    assert [RawAnswer(url).status, RawAnswer(url).status] == [200, 403]
    hub.uses_of_a_link = None
    url = storage_url(hub)
    hub.expire_links()
    assert RawAnswer(url).status == 403


def test_a_branch_moves(hub: FakeHub, repo: str) -> None:
    hub.on_request = lambda seen: hub.publish(REPO, {NAME: b"new"}) and None if "/refs" in seen.path else None
    assert repo == RawAnswer(resolve(hub), method="HEAD").headers["X-Repo-Commit"]
    RawAnswer(f"{hub.url}/api/models/{REPO}/refs")
    assert repo != RawAnswer(resolve(hub), method="HEAD").headers["X-Repo-Commit"]
    old = RawAnswer(f"{hub.url}/{REPO}/resolve/{repo}/{NAME}", method="HEAD")
    assert repo == old.headers["X-Repo-Commit"]


def test_requests_are_recorded_per_host(hub: FakeHub) -> None:
    location = RawAnswer(resolve(hub), method="HEAD", headers={"Authorization": "Bearer x"}).headers[
        "Location"
    ]
    RawAnswer(location, headers={"Range": "bytes=0-1"})
    assert [seen.authorization for seen in hub.asked("hub", "HEAD", "/resolve/")] == ["Bearer x"]
    assert [(seen.range, seen.authorization) for seen in hub.asked("storage")] == [("bytes=0-1", None)]


def test_the_real_client_lists_and_downloads(hub: FakeHub, repo: str, tmp_path: Path) -> None:
    hub.page_size = 2
    shards = tiny_split("UD-Q4_K_XL/big-UD-Q4_K_XL", 5)
    commit = hub.publish(REPO, {NAME: MODEL, "README.md": b"# tiny\n", **shards})
    api = huggingface_hub.HfApi(endpoint=hub.url, token=False)
    info = api.model_info(REPO, files_metadata=True)
    assert (commit, 7) == (info.sha, len(info.siblings or []))
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
    assert len(MODEL) == sizes[NAME]
    tree = [entry.path for entry in api.list_repo_tree(REPO, recursive=True)]
    assert sorted([NAME, "README.md", *shards]) == tree
    assert len(hub.asked("hub", "GET", "/tree/")) == 4
    assert [entry.path for entry in api.get_paths_info(REPO, [NAME, "nothing"])] == [NAME]
    assert {commit} == {branch.target_commit for branch in api.list_repo_refs(REPO).branches}
    for name, content in {NAME: MODEL, "README.md": b"# tiny\n"}.items():
        path = api.hf_hub_download(REPO, name, cache_dir=tmp_path)
        assert content == Path(path).read_bytes()


def test_the_real_client_sees_refusals(hub: FakeHub, tmp_path: Path) -> None:
    api = huggingface_hub.HfApi(endpoint=hub.url, token=False)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("user/none")
    hub.repos[REPO].gated = True
    assert NAME in api.list_repo_files(REPO)
    with pytest.raises(GatedRepoError):
        api.hf_hub_download(REPO, NAME, cache_dir=tmp_path)
    with pytest.raises(GatedRepoError):
        api.hf_hub_download(REPO, NAME, cache_dir=tmp_path, token="hf_any")
    hub.repos[REPO].accepted = True
    assert Path(api.hf_hub_download(REPO, NAME, cache_dir=tmp_path, token="hf_any")).read_bytes() == MODEL
    hub.token = "hf_other"
    with pytest.raises(HfHubHTTPError) as caught:
        api.model_info(REPO, token="hf_any")
    assert caught.value.response.status_code == 401
