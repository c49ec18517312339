"""Types that a peer could not compute with, although its head sends them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.errors import BadGguf
from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Backend, Device, Peer
from launcher.plan.memory.kernels import check_peers
from launcher.units import GIB

CARD = Device(id="CUDA0", backend=Backend.CUDA, name="card", total_bytes=24 * GIB, free_bytes=None)
TYPES = (GgmlType.F32, GgmlType.TQ1_0)


@pytest.mark.parametrize("backend", [Backend.CUDA, Backend.METAL])
def test_a_peer_without_the_kernel_is_refused(backend: Backend) -> None:
    remote = replace(CARD, backend=backend, peer=Peer(endpoint="a:1"))

    with pytest.raises(BadGguf, match="m has TQ1_0 tensors, and card, on a peer"):
        check_peers("m", TYPES, [remote])


def test_what_a_peer_has_kernels_for_and_the_heads_own_devices_are_not() -> None:
    check_peers("m", TYPES, [CARD, replace(CARD, backend=Backend.CPU, peer=Peer(endpoint="a:1"))])
    check_peers("m", [GgmlType.Q4_K], [replace(CARD, peer=Peer(endpoint="a:1"))])
