"""Describe devices on other machines, behind ggml-rpc-servers: `10.0.0.2:50052=3090:2`. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from launcher.errors import UsageError
from launcher.machine.from_words import idle_available, named_device, split_count
from launcher.machine.machine import MAX_DEVICES, Backend, Device, Machine, Peer
from launcher.units import parse_size

_ENDPOINT = re.compile(r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252}):(?P<port>[0-9]{1,5})", re.ASCII)
_PROCESSOR = "cpu:"


def is_endpoint(text: str) -> bool:
    """Return True for host:port. llama.cpp takes no IPv6 address there (parse_endpoint, ggml-rpc.cpp)."""
    match = _ENDPOINT.fullmatch(text)
    return match is not None and 0 < int(match["port"]) < 1 << 16


def parse_peers(texts: Iterable[str]) -> tuple[Device, ...]:
    """Return the devices of `HOST:PORT=CARD[:COUNT]`, RPC0 and on; `cpu:64G` is a processor with its RAM.

    Raises UsageError for words that name no peer, NotFound for a card that nobody knows.
    """
    devices: list[Device] = []
    for text in texts:
        endpoint, equals, card = text.partition("=")
        if not equals or not is_endpoint(endpoint):
            raise UsageError(f"--peer {text!r} is not HOST:PORT=CARD", hint="--peer 10.0.0.2:50052=3090:2")
        devices += [replace(device, peer=Peer(endpoint=endpoint)) for device in _devices(text, card)]
    return number_peers(devices)


def number_peers(devices: Sequence[Device]) -> tuple[Device, ...]:
    """Return devices of peers as RPC0 and on over all servers, and by their places on each."""
    behind: Counter[str] = Counter()
    numbered: list[Device] = []
    for device in devices:
        endpoint = device.peer.endpoint if device.peer else ""
        numbered.append(
            replace(device, id=f"RPC{len(numbered)}", peer=Peer(endpoint=endpoint, index=behind[endpoint]))
        )
        behind[endpoint] += 1
    return tuple(numbered)


def seen_by_head(devices: Sequence[Device], endpoints: Sequence[str]) -> tuple[Device, ...]:
    """Return the devices that a llama-server with `--rpc` has: those of its peers first, then its own.

    Raises UsageError for a peer whose devices are not among `devices`, and for more than llama.cpp takes.
    """
    own = tuple(device for device in devices if device.peer is None)
    remote: list[Device] = []
    for endpoint in dict.fromkeys(endpoints):
        behind = [device for device in devices if device.peer and device.peer.endpoint == endpoint]
        if not behind:
            raise UsageError(
                f"--rpc names {endpoint}, and what memory that peer has is not known",
                hint=f"--peer {endpoint}=24G before --, with its card, or cpu:64G for a processor; or a "
                f'machine file with rpc = "{endpoint}" in a [[device]]',
            )
        if sum(device.backend is Backend.CPU for device in behind) > 1:
            raise UsageError(
                f"{endpoint} has its processor more than once, and each would have the same RAM",
                hint=f"--peer {endpoint}=cpu:64G",
            )
        remote += behind
    if len(remote) + len(own) > MAX_DEVICES:
        raise UsageError(
            f"{len(remote)} devices of peers and {len(own)} of this machine are more than llama.cpp takes "
            f"({MAX_DEVICES})",
            hint="leave peers out of --rpc",
        )
    return (*number_peers(remote), *own)


def refuse_peers(machine: Machine, name: str | None) -> None:
    """Raise UsageError for a machine that has devices of others: such machines are planned together."""
    if any(device.peer is not None for device in machine.devices):
        raise UsageError(
            f"machine {name} has devices behind RPC, which are of other machines",
            hint="plan for all of them together, with --machine for each",
        )


def _devices(text: str, card: str) -> list[Device]:
    if card.lower().startswith(_PROCESSOR):
        total = parse_size(card[len(_PROCESSOR) :])
        device = Device(
            id="",
            backend=Backend.CPU,
            name=f"processor with {card[len(_PROCESSOR) :]}",
            total_bytes=total,
            free_bytes=idle_available(total),
        )
        return [device]
    name, count = split_count(card)
    device = named_device(name, ram_bytes=0)
    if device.shares_host_memory:
        raise UsageError(
            f"--peer {text!r}: that GPU has the RAM of its machine, which is not given",
            hint=f"write its memory: {text.partition('=')[0]}={device.backend}:96G",
        )
    return [device] * count
