"""What never ends, or is far too much, ends in a sentence: in little time and little memory."""

from __future__ import annotations

import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from launcher.errors import LauncherError, TryAgain, UsageError
from launcher.models.hub.api_json import parse_page
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.located import PullOptions
from launcher.models.store import HubStore
from launcher.models.url import open_url
from launcher.units import GIB, MIB
from tests.attacks.published import FILE, MODEL, REF, REPO
from tests.fakes.hub import FakeHub, Fault
from tests.pulling import QUICK, QUICK_READS
from tests.serving import until

HASTY = replace(QUICK_READS, patience_s=3.0, crawl_window_s=0.5, deadline_s=20.0)
OPTIONS = PullOptions(tuning=replace(QUICK, crawl_window_s=0.5))
JSON = ("Content-Type", "application/json")

# Generous: they only tell the bounded from the unbounded.
_MOST_S = 30.0
_MOST_BYTES = 64 * MIB


@pytest.fixture
def hub(hub: FakeHub) -> FakeHub:
    hub.publish(REPO, {FILE: MODEL})
    return hub


@pytest.fixture
def endpoint(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, policy=HASTY)


def refused(work: Callable[[], object], kind: type[LauncherError] = TryAgain) -> str:
    """Return the sentence that `work` ends in."""
    began = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(kind) as caught:
            work()
        assert tracemalloc.get_traced_memory()[1] < _MOST_BYTES
    finally:
        tracemalloc.stop()
    assert time.monotonic() - began < _MOST_S
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500
    assert caught.value.hint
    return caught.value.message


def _bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    return b"".join([packer.compress(b" " * MIB) for _ in range(300)]) + packer.flush()


TOO_MUCH = {
    "without a length": Fault(body=b'"' + b"a" * MIB, repeat=0),
    "with a length of an exabyte": Fault(body=b"[]", headers=(("Content-Length", str(1 << 60)),)),
    "compressed": Fault(body=_bomb(), headers=(("Content-Encoding", "gzip"),)),
}


@pytest.mark.parametrize("match", ["/revision/", "/tree/"])
@pytest.mark.parametrize("fault", TOO_MUCH)
def test_an_answer_of_the_api_is_bounded(
    hub: FakeHub, endpoint: Endpoint, store: HubStore, *, match: str, fault: str
) -> None:
    hub.faults.append(replace(TOO_MUCH[fault], where="api", match=match))
    assert "more than 4.0 MiB" in refused(lambda: open_repo(REF, endpoint=endpoint, store=store))


NONSENSE = {
    "brackets": b"[" * 100_000,
    "no JSON": b"<html>log in</html>",
    "a number of 5000 digits": b'[{"type": "file", "path": "a.gguf", "size": ' + b"9" * 5000 + b"}]",
    "a size of 40 digits": b'[{"type": "file", "path": "a.gguf", "size": ' + b"9" * 40 + b"}]",
    "a negative size": b'[{"type": "file", "path": "a.gguf", "size": -1}]',
    "no text": b"\xff\xfe\xfd",
    "escapes": b'{"sha": "\\u001b[31m\\nhint: rm -rf /"}',
    "a cut gzip": zlib.compress(b"[]" * 1000)[:20],
}


@pytest.mark.parametrize("match", ["/revision/", "/tree/"])
@pytest.mark.parametrize("body", NONSENSE)
def test_an_answer_that_makes_no_sense_is_said_to(
    hub: FakeHub, endpoint: Endpoint, store: HubStore, *, match: str, body: str
) -> None:
    coding = (("Content-Encoding", "deflate"),) if "gzip" in body else ()
    hub.faults.append(Fault(where="api", match=match, body=NONSENSE[body], headers=(JSON, *coding)))
    assert refused(lambda: open_repo(REF, endpoint=endpoint, store=store)).isprintable()


def test_a_length_of_5000_digits_is_as_if_there_were_none(
    hub: FakeHub, endpoint: Endpoint, store: HubStore
) -> None:
    length = (("Content-Length", "9" * 5000),)
    hub.faults.append(Fault(where="api", match="/revision/", body=b"{}", headers=length))
    assert "a model without a commit" in refused(lambda: open_repo(REF, endpoint=endpoint, store=store))
    hub.faults[:] = [Fault(body=MODEL, headers=length)]  # read as a file that comes without ranges
    (path,) = fetch_hub_files(
        open_repo(REF, endpoint=endpoint, store=store), endpoint=endpoint, store=store, options=OPTIONS
    )
    assert path.read_bytes() == MODEL


@pytest.mark.parametrize("body", [b"[]", b'[{"type": "file", "path": "a.gguf", "size": 1}]'])
def test_pages_without_end_are_counted(
    hub: FakeHub, endpoint: Endpoint, store: HubStore, body: bytes
) -> None:
    link = ("Link", f'<{hub.url}/api/models/{REPO}/tree/x?cursor=1>; rel="next"')
    hub.faults.append(Fault(where="api", match="/tree/", body=body, headers=(JSON, link)))
    assert "more than 100 pages" in refused(lambda: open_repo(REF, endpoint=endpoint, store=store))
    assert len(hub.asked("hub", match="/tree/")) == 100


def test_files_without_end_are_counted(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> None:
    body = b"[" + b",".join([b'{"type": "file", "path": "a"}'] * 20_001) + b"]"
    hub.faults.append(Fault(where="api", match="/tree/", body=body))
    assert "more than 20000 files" in refused(lambda: open_repo(REF, endpoint=endpoint, store=store))


@pytest.mark.parametrize(
    "link", ["file:///etc/passwd", "http://127.0.0.1:port/", "gopher://h/", "http://[::1/x"]
)
def test_a_page_that_leads_out_of_the_web_is_not_followed(
    hub: FakeHub, endpoint: Endpoint, store: HubStore, link: str
) -> None:
    hub.faults.append(
        Fault(where="api", match="/tree/", body=b"[]", headers=(("Link", f'<{link}>; rel="next"'),))
    )
    assert "cannot be followed" in refused(lambda: open_repo(REF, endpoint=endpoint, store=store))


def test_a_page_elsewhere_gets_no_token(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> None:
    link = ("Link", f'<{hub.storage_url}/more>; rel="next"')
    hub.faults.append(Fault(where="api", match="/tree/", body=b"[]", headers=(link,)))
    known = replace(endpoint, token="hf_secret")
    with pytest.raises(LauncherError):
        open_repo(REF, endpoint=known, store=store)
    assert {seen.authorization for seen in hub.asked("hub")} == {"Bearer hf_secret"}
    assert {seen.authorization for seen in hub.asked("storage", match="/more")} == {None}


DRIPS = {"a body": Fault(body=b" " * 10_000, bytes_per_s=10), "a head": Fault(head_bytes_per_s=20)}


@pytest.mark.parametrize("fault", DRIPS)
@pytest.mark.parametrize("where", ["/revision/", "/tree/", "resolve", "storage"])
def test_a_look_up_that_drips_is_given_up(
    hub: FakeHub, endpoint: Endpoint, store: HubStore, *, where: str, fault: str
) -> None:
    place = {"where": "api", "match": where} if "/" in where else {"where": where}
    hub.faults.append(replace(DRIPS[fault], **place))
    if fault == "a body" and where == "resolve":
        pytest.skip("the body of a redirect is not waited for")
    refused(lambda: open_repo(REF, endpoint=endpoint, store=store))


@pytest.mark.parametrize("fault", DRIPS)
def test_a_transfer_that_drips_once_is_survived(
    hub: FakeHub, endpoint: Endpoint, store: HubStore, fault: str
) -> None:
    located = open_repo(REF, endpoint=endpoint, store=store)
    hub.faults.append(replace(DRIPS[fault], times=1))
    (path,) = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert path.read_bytes() == MODEL


@pytest.mark.parametrize("where", ["api", "resolve", "storage"])
def test_redirects_without_end_are_counted(
    hub: FakeHub, endpoint: Endpoint, store: HubStore, where: str
) -> None:
    hub.faults.append(Fault(where=where, redirect_to="/around"))
    hub.faults.append(Fault(where="resolve", match="/around", redirect_to="/around"))
    sentence = refused(lambda: open_repo(REF, endpoint=endpoint, store=store), UsageError)
    assert "redirects more than 6 times" in sentence
    assert len(hub.seen) < 20


def test_a_redirect_out_of_the_web_is_refused(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> None:
    hub.faults.append(Fault(where="resolve", redirect_to="file:///etc/passwd"))
    sentence = refused(lambda: open_repo(REF, endpoint=endpoint, store=store), UsageError)
    assert "redirects to file:, which is no web address" in sentence


@contextmanager
def _saying(words: bytes, *, seconds_between: float) -> Iterator[str]:
    """Serve the same words again and again, whatever is asked."""
    left = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while not left.is_set():
                client, _ = server.accept()
                threading.Thread(target=say, args=(client,), daemon=True).start()

        def say(client: socket.socket) -> None:
            try:
                with client:
                    while not left.wait(seconds_between):
                        client.sendall(words)
            except OSError:  # the client has enough
                pass

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        left.set()
        with socket.create_connection(server.getsockname()):  # `accept` comes back
            pass


@pytest.mark.parametrize(
    "words",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 100,
        b"\x1b[31mhint: rm -rf /\x07" * 10,
    ],
    ids=["continue", "chunk length", "no HTTP"],
)
def test_a_server_that_never_comes_to_the_point_is_left(
    endpoint: Endpoint, store: HubStore, words: bytes
) -> None:
    with _saying(words, seconds_between=0.01) as url:
        assert refused(lambda: open_repo(REF, endpoint=replace(endpoint, url=url), store=store)).isprintable()
        assert refused(lambda: open_url(f"{url}/{FILE}", HASTY), LauncherError).isprintable()
    until(lambda: not any(thread.name == "network-watch" for thread in threading.enumerate()))


def test_memory_of_the_worst_json_is_bounded() -> None:
    # the most that 4 MiB can become: an object in three characters
    body = b"[" + b"{}," * (4 * MIB // 3 - 2) + b"{}]"
    tracemalloc.start()
    try:
        assert parse_page(body, "").files == ()
        assert tracemalloc.get_traced_memory()[1] < GIB // 4
    finally:
        tracemalloc.stop()
