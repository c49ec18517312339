"""ggml-rpc-servers on loopback addresses, as the devices that a head has of them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from launcher.machine.machine import Backend, Device, Peer
from launcher.plan.modes import CacheType, FlashAttention, SplitMode, TensorOverride
from launcher.plan.oracle import Question
from launcher.units import GIB
from tests.simulate.cases import EXPERTS, EXPERTS_ON_HOST, WITH_EXPERTS, describe
from tests.simulate.engine_log import software_gpus

_START_S = 20.0
_KIND = {Backend.CPU: "CPU", Backend.VULKAN: "Vulkan"}

QUANTISED = {"cache_type_k": CacheType.Q8_0, "cache_type_v": CacheType.Q8_0, "flash_attn": FlashAttention.ON}
ON_PEERS: tuple[tuple[int, dict[str, object]], ...] = (
    (1, {}),
    (1, {"n_parallel": 4, "kv_unified": False}),
    (1, {"split_mode": SplitMode.NONE, "n_gpu_layers": 3}),
    (2, {"tensor_split": (1.0, 1.0)}),
    (2, {"tensor_split": (1.0, 3.0), "n_parallel": 4, "ubatch_size": 128}),
    (2, {"tensor_split": (1.0, 1.0), **QUANTISED}),
    (2, {"tensor_split": (1.0, 1.0), "flash_attn": FlashAttention.OFF}),
    (2, {"tensor_split": (1.0, 1.0), "n_gpu_layers": 3}),
    (3, {"tensor_split": (1.0, 1.0, 1.0)}),
    (3, {"tensor_split": (1.0, 1.0, 6.0), "ubatch_size": 1024}),
)
"""Devices, and what differs from the defaults. The split is given: a peer on the processor reports all RAM."""
EXPERTS_ON_PEERS: tuple[tuple[int, dict[str, object]], ...] = (
    (2, {"tensor_split": (1.0, 1.0), "overrides": EXPERTS_ON_HOST}),
    (
        2,
        {
            "tensor_split": (1.0, 0.0),
            "overrides": (TensorOverride(pattern=r"blk\.[2-5]" + EXPERTS, where="RPC1"),),
        },
    ),
    (3, {"tensor_split": (1.0, 1.0, 1.0), "overrides": EXPERTS_ON_HOST, "n_parallel": 4}),
)
KIMI_ON_PEERS: tuple[tuple[int, int, dict[str, object]], ...] = (
    (2, 131072, {"tensor_split": (1.0, 1.0)}),
    (3, 131072, {"tensor_split": (1.0, 1.0, 1.0)}),
    (3, 262144, {"tensor_split": (2.0, 3.0, 3.0), **QUANTISED}),
    (3, 32768, {"tensor_split": (1.0, 1.0, 1.0), "overrides": EXPERTS_ON_HOST}),
)
"""Devices, context and what differs, for Kimi K2.5."""


@contextlib.contextmanager
def rpc_peers(folder: Path, backends: Sequence[Backend]) -> Iterator[tuple[Device, ...]]:
    """Run a ggml-rpc-server of the engine in `folder` for each backend; yield their devices, RPC0 and on."""
    with contextlib.ExitStack() as stack:
        yield tuple(
            stack.enter_context(_rpc_server(folder, index, backend)) for index, backend in enumerate(backends)
        )


@contextlib.contextmanager
def _rpc_server(folder: Path, index: int, backend: Backend) -> Iterator[Device]:
    host = f"127.0.0.{index + 1}"
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    device = "CPU" if backend is Backend.CPU else f"{_KIND[backend]}0"
    command = [folder / "ggml-rpc-server", "-H", host, "-p", str(port), "-d", device, "-t", "1"]
    environment = {**os.environ, "GGML_VK_VISIBLE_DEVICES": "0" if backend is Backend.VULKAN else ""}
    with tempfile.TemporaryFile() as log:
        # a server that is answering when its head is killed would die of SIGPIPE, which Python ignores
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            restore_signals=False,
        )
        try:
            _wait_for(process, host, port)
            yield remote(index, backend, f"{host}:{port}")
        except AssertionError as error:
            log.seek(0)
            said = log.read()[-2000:].decode(errors="replace")
            raise AssertionError(f"{error}\npeer {index} ({process.poll()}): {said}") from error
        finally:
            process.kill()
            process.wait()


def remote(index: int, backend: Backend, endpoint: str) -> Device:
    """Return the first device of a server as the head's RPC`index`."""
    if backend is Backend.VULKAN:
        like = software_gpus(1)[0]
    else:
        like = Device(id="", backend=backend, name="peer", total_bytes=24 * GIB, free_bytes=24 * GIB)
    return replace(like, id=f"RPC{index}", peer=Peer(endpoint=endpoint))


def _wait_for(process: subprocess.Popen[bytes], host: str, port: int) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"ggml-rpc-server did not listen on {host}:{port}")


def on_peers(name: str, model: Path, devices: Sequence[Device]) -> Iterator[tuple[str, Question]]:
    """Yield the configurations that suit the model, on the first of `devices`."""
    cases = (*ON_PEERS, *(EXPERTS_ON_PEERS if name in WITH_EXPERTS else ()))
    for n_devices, changes in cases:
        if n_devices <= len(devices):
            used = tuple(devices[:n_devices])
            yield (
                describe(name, n_devices, changes),
                Question(model=str(model), devices=used, ctx_size=4096, **changes),
            )
