"""Devices behind ggml-rpc-servers: in words, in machine files, and as a head numbers them."""

from __future__ import annotations

import pytest

from launcher.errors import LauncherError
from launcher.machine.from_toml import parse_machine
from launcher.machine.machine import Backend, Device, Peer
from launcher.machine.peers import is_endpoint, parse_peers, seen_by_head
from launcher.machine.to_toml import format_machine
from launcher.units import GIB

FIRST, SECOND = "10.0.0.2:50052", "10.0.0.3:50052"
OWN = Device(id="CUDA0", backend=Backend.CUDA, name="card", total_bytes=24 * GIB, free_bytes=None)
FILE = f"""
[ram]
total = "64 GiB"

[[device]]
gpu = "3090"

[[device]]
gpu = "4090"
count = 2
rpc = "{FIRST}"

[[device]]
backend = "cpu"
name = "EPYC 9355"
total = "512 GiB"
rpc = "{SECOND}"
"""


def test_peers_come_before_the_heads_own_and_are_numbered_in_the_order_of_the_line() -> None:
    devices = (OWN, *parse_peers([f"{FIRST}=3090:2", f"{SECOND}=cpu:64G"]))

    seen = seen_by_head(devices, [SECOND, FIRST])

    assert [device.id for device in seen] == ["RPC0", "RPC1", "RPC2", "CUDA0"]
    assert [device.buffer_name for device in seen] == [
        f"RPC0[{SECOND}]",
        f"RPC0[{FIRST}]",
        f"RPC1[{FIRST}]",
        "CUDA0",
    ]
    assert [device.backend for device in seen] == [Backend.CPU, Backend.CUDA, Backend.CUDA, Backend.CUDA]
    assert not any(device.lies_in_ram for device in seen)


def test_peers_that_a_line_does_not_name_are_not_there() -> None:
    devices = (OWN, *parse_peers([f"{FIRST}=3090", f"{SECOND}=4090"]))

    assert seen_by_head(devices, ()) == (OWN,)
    assert [device.label for device in seen_by_head(devices, [SECOND])] == [
        f"NVIDIA GeForce RTX 4090 at {SECOND}",
        "card",
    ]


def test_a_machine_file_has_peers_and_is_written_back() -> None:
    machine = parse_machine(FILE, "head")

    assert [device.id for device in machine.devices] == ["RPC0", "RPC1", "RPC2", "CUDA0"]
    assert [device.peer for device in machine.devices] == [
        Peer(endpoint=FIRST),
        Peer(endpoint=FIRST, index=1),
        Peer(endpoint=SECOND),
        None,
    ]
    assert parse_machine(format_machine(machine), "again") == machine


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (FIRST, "10.0.0.2", "not HOST:PORT"),
        (FIRST, "[::1]:50052", "not HOST:PORT"),
        (f'rpc = "{SECOND}"', "", "cpu"),
        ("count = 2", 'id = "CUDA1"', "neither id"),
        ('total = "512 GiB"', "total = 1.5", "total"),
    ],
)
def test_a_file_that_says_it_wrongly_is_refused(old: str, new: str, said: str) -> None:
    assert old in FILE
    with pytest.raises(LauncherError, match=said):
        parse_machine(FILE.replace(old, new), "head")


@pytest.mark.parametrize(
    ("words", "endpoints", "said"),
    [
        ([], [FIRST], "is not known"),
        ([f"{FIRST}=3090"], [FIRST, SECOND], SECOND),
        ([f"{FIRST}=3090:16"], [FIRST], "more than llama.cpp takes"),
        ([f"{FIRST}=cpu:8G", f"{FIRST}=cpu:8G"], [FIRST], "the same RAM"),
        (["10.0.0.2=3090"], [], "HOST:PORT=CARD"),
        ([f"{FIRST}"], [], "HOST:PORT=CARD"),
        ([f"{FIRST}=cpu:0.5"], [], "no unit"),
        ([f"{FIRST}=cpu:"], [], "size"),
        ([f"{FIRST}=nonesuch9"], [], "nonesuch9"),
        ([f"{FIRST}=strix-halo"], [], "RAM of its machine"),
    ],
)
def test_what_is_not_known_of_a_peer_is_refused(words: list[str], endpoints: list[str], said: str) -> None:
    with pytest.raises(LauncherError) as raised:
        seen_by_head((OWN, *parse_peers(words)), endpoints)

    assert said in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize("text", ["a:1", "gpu-2.lan:50052", "10.0.0.2:65535"])
def test_endpoints(text: str) -> None:
    assert is_endpoint(text)


@pytest.mark.parametrize(
    "text", ["", "a", ":1", "a:", "a:0", "a:65536", "a:1 ", "::1:5", "-a:1", "a b:1", "a:1\n"]
)
def test_no_endpoints(text: str) -> None:
    assert not is_endpoint(text)
