"""https with an authority of one's own, and through a proxy: as in a company's network."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import pytest

from launcher.errors import UsageError
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.located import PullOptions
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import HubStore
from launcher.models.url import open_url
from launcher.system.certificates import CERTIFICATE_VARIABLES, trusted_certificates
from launcher.system.network.connection import Connection
from tests.fakes.hub import FakeHub, Fault
from tests.pulling import QUICK, QUICK_READS
from tests.tiny_gguf import tiny_split

REPO = "user/repo"
SHARDS = tiny_split("big-Q8_0", 2, n_values=200_000)
OPTIONS = PullOptions(tuning=QUICK)

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """`certificate` is of the one that signed `chain`, whose key is `key`."""

    certificate: Path
    chain: Path
    key: Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("authority")
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    new += [
        "-days",
        "2",
        "-addext",
        "keyUsage=critical,digitalSignature,keyCertSign",
    ]  # 3.13 asks for a usage
    run([*new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Example Corp CA"], folder)
    own = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1"]
    run([*new, "-keyout", "hub.key", "-out", "hub.pem", "-subj", "/CN=hub", *own], folder)
    return Authority(certificate=folder / "ca.pem", chain=folder / "hub.pem", key=folder / "hub.key")


def run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture
def hub(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    for name in (
        *CERTIFICATE_VARIABLES,
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    huggingface_hub.close_session()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.chain, authority.key)
    with FakeHub(context) as running:
        running.publish(REPO, SHARDS)
        yield running
    huggingface_hub.close_session()


@pytest.fixture
def endpoint(hub: FakeHub, tmp_path: Path) -> Endpoint:
    return Endpoint(url=hub.url, token=None, cache_dir=tmp_path / "hf" / "hub", policy=QUICK_READS)


@pytest.fixture
def store(tmp_path: Path) -> HubStore:
    return HubStore(folder=tmp_path / "cache" / "hub")


def pull_all(endpoint: Endpoint, store: HubStore) -> list[bytes]:
    located = open_repo(ModelRef(kind=RefKind.HUB, name=REPO), endpoint=endpoint, store=store)
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    return [path.read_bytes() for path in paths]


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_authority_named_in_the_environment_is_trusted(
    *,
    hub: FakeHub,
    authority: Authority,
    endpoint: Endpoint,
    store: HubStore,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    monkeypatch.setenv(variable, str(authority.certificate))
    assert endpoint.url.startswith("https://")
    assert pull_all(endpoint, store) == list(SHARDS.values())


def test_an_unknown_authority_is_refused_with_the_way_out(
    hub: FakeHub, endpoint: Endpoint, store: HubStore
) -> None:
    with pytest.raises(UsageError, match=r"certificate of 127\.0\.0\.1.* is not trusted: ") as caught:
        pull_all(endpoint, store)
    assert "SSL_CERT_FILE" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="its certificate is not trusted"):
        open_url(f"{hub.url}/{REPO}/resolve/main/x.gguf")


@pytest.mark.parametrize("where", ["api", "resolve", "storage"])
def test_a_redirect_to_plain_http_is_refused(
    *,
    hub: FakeHub,
    authority: Authority,
    endpoint: Endpoint,
    store: HubStore,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    (name, *_) = SHARDS
    url = f"{hub.url}/{REPO}/resolve/main/{name}"
    with FakeHub() as plain:
        plain.publish(REPO, SHARDS)
        located = open_repo(ModelRef(kind=RefKind.HUB, name=REPO), endpoint=endpoint, store=store)
        open_url(url)
        hub.faults.append(Fault(where=where, redirect_to=f"{plain.url}/{REPO}/resolve/main/{name}"))
        with pytest.raises(UsageError, match="redirects from https to http"):
            open_repo(
                ModelRef(kind=RefKind.HUB, name=REPO),
                endpoint=endpoint,
                store=HubStore(folder=store.folder / "other"),
            )
        if where != "api":
            with pytest.raises(UsageError, match="redirects from https to http"):
                open_url(url)
            with pytest.raises(UsageError, match="redirects from https to http"):
                fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
        assert plain.seen == []


def test_an_authority_that_is_lost_between_listing_and_bytes_is_refused(
    *,
    hub: FakeHub,
    authority: Authority,
    endpoint: Endpoint,
    store: HubStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    located = open_repo(ModelRef(kind=RefKind.HUB, name=REPO), endpoint=endpoint, store=store)
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UsageError, match=r"cannot be fetched: its certificate is not trusted"):
        fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)


def test_a_variable_that_names_no_certificates_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(UsageError, match=r"REQUESTS_CA_BUNDLE=.*none\.pem .*No such file"):
        trusted_certificates()


class _Tunnel(BaseHTTPRequestHandler):
    """A proxy that knows CONNECT only, and every name as this machine."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_CONNECT(self) -> None:
        self.asked.append((self.path, self.headers.get("Proxy-Authorization")))
        port = int(self.path.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_carry, args=(there, self.connection), daemon=True)
            back.start()
            _carry(self.connection, there)
            back.join()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        pass


def _carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:  # the other side has left
        pass


@pytest.fixture
def proxy() -> Iterator[str]:
    _Tunnel.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Tunnel)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://me:pw@127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_https_goes_through_the_proxy_as_a_tunnel(
    *,
    hub: FakeHub,
    authority: Authority,
    endpoint: Endpoint,
    store: HubStore,
    proxy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Listing and bytes; the proxy sees names and its own password, nothing of what is in the tunnel."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")
    assert pull_all(endpoint, store) == list(SHARDS.values())
    hosts = {host for host, _ in _Tunnel.asked}
    assert hosts == {url.removeprefix("https://") for url in (hub.url, hub.storage_url)}
    assert {password for _, password in _Tunnel.asked} == {"Basic bWU6cHc="}


def test_a_line_through_a_proxy_that_refuses_says_so(
    authority: Authority, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(OSError, match=r"Tunnel connection failed|refused|reset|closed|EOF"):
        Connection(2.0).get("https://hub.example:1/x", {})
