from pathlib import Path

import pytest

from launcher.deployment.address import check_exposure, check_start, local_url
from launcher.errors import UsageError


def test_nothing_is_exposed_without_a_key(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "box"):
        with pytest.raises(UsageError, match=f"host {host} can be reached from other machines"):
            check_exposure(host, None)
        check_exposure(host, tmp_path / "keys")
    for host in ("127.0.0.1", "localhost", "::1"):
        check_exposure(host, None)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("localhost", "http://localhost:80"),
    ],
)
def test_the_url_can_be_connected_to(host: str, url: str) -> None:
    assert local_url(host, 80) == url


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.2", "::"])
def test_an_rpc_server_beyond_loopback_is_not_started(host: str) -> None:
    with pytest.raises(UsageError, match="knows no password"):
        check_start(["/engines/x/ggml-rpc-server", "-H", host, "-p", "1"])
    check_start(["/engines/x/ggml-rpc-server", "-H", "127.0.0.1", "-p", "1"])


@pytest.mark.parametrize("flag", ["-c", "--cache"])
def test_an_rpc_server_that_serves_weights_from_its_cache_is_not_started(flag: str) -> None:
    with pytest.raises(UsageError, match="nothing verifies"):
        check_start(["python", "rpc_relay.py", "/tmp/x", "/engines/x/ggml-rpc-server", "-d", "CPU", flag])
