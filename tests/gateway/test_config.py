"""The gateway's settings in config.toml and variables."""

from __future__ import annotations

import pytest

from launcher.errors import UsageError
from launcher.gateway.config import GatewayConfig, ModelConfig, read_gateway_config
from launcher.system.settings import read_settings


def read(text: str) -> GatewayConfig:
    file = read_settings().config_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return read_gateway_config(read_settings())


def test_without_a_file_it_is_loopback_and_8080() -> None:
    config = read_gateway_config(read_settings())
    assert (config.host, config.port, config.idle_s, config.default) == ("127.0.0.1", 8080, 1800.0, None)


def test_everything_can_be_said() -> None:
    config = read("""
        [gateway]
        port = 9000
        default = "coder"
        max-ram = "16G"
        idle-minutes = 5
        [gateway.aliases]
        "gpt-4o" = "coder"
        [gateway.groups]
        large = 2
        [models.coder]
        ref = "user/repo:Q4_K_M"
        context = "32k"
        slots = 2
        ttl = 60
        pin = true
        priority = 1
        mode = "thinking"
        flags = ["--no-warmup"]
        group = "large"
    """)
    assert (config.port, config.default, config.max_ram_bytes, config.idle_s) == (
        9000,
        "coder",
        16 << 30,
        300.0,
    )
    assert config.aliases == {"gpt-4o": "coder"}
    assert config.groups == {"large": 2}
    assert config.models["coder"] == ModelConfig(
        ref="user/repo:Q4_K_M", ctx_size=32768, slots=2, ttl_s=60.0, pin=True, priority=1, mode="thinking",
        flags=("--no-warmup",), group="large",
    )  # fmt: skip


def test_variables_win_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_GATEWAY_PORT", "9001")
    monkeypatch.setenv("LAUNCHER_GATEWAY_HOST", "::1")
    config = read("[gateway]\nport = 9000\n")
    assert (config.host, config.port) == ("::1", 9001)


@pytest.mark.parametrize("port", ["", "0", "x", "70000", "-1", "٣"])
def test_a_port_in_a_variable_is_a_port(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("LAUNCHER_GATEWAY_PORT", port)
    with pytest.raises(UsageError, match="LAUNCHER_GATEWAY_PORT"):
        read_gateway_config(read_settings())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[gateway]\nprot = 1\n", "prot"),
        ("[gateway]\nport = 0\n", "port"),
        ('[gateway]\nport = "8080"\n', "port"),
        ('[gateway]\nmax-ram = "lots"\n', "lots"),
        ("gateway = 1\n", "gateway"),
        ("[models]\na = 1\n", "a"),
        ("[models.a]\nslots = 0\n", "slots"),
        ("[models.a]\nttl = -1\n", "ttl"),
        ('[models.a]\ncontext = "x"\n', "x"),
        ("[models.a]\nflags = [1]\n", "flags"),
        ("[models.a]\nwhat = 1\n", "what"),
        ("[gateway.groups]\nlarge = 0\n", "large"),
        ("[what]\n", "what"),
    ],
)
def test_what_cannot_be_used_is_named(text: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        read(text)
