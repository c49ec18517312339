"""Choose among a release's files by what this machine has. PURE."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from launcher.engine.sources.assets import AssetName
from launcher.machine.machine import Backend

Version = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaCard:
    """What CUDA asks of a card."""

    driver: Version | None
    capability: Version | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What a program that was built elsewhere needs to find here; None: not known, or not there."""

    system: str  # linux, darwin
    arch: str  # x64, arm64, s390x
    glibc: Version | None
    libstdcxx: int | None  # N of the newest GLIBCXX_3.4.N
    nvidia: tuple[NvidiaCard, ...] = ()
    has_amd: bool = False
    has_intel: bool = False  # a card of its own
    rocm: Version | None = None
    has_vulkan: bool = False  # its loader
    cpu_flags: tuple[str, ...] = ()  # as the kernel spells them

    @property
    def has_gpu(self) -> bool:
        return bool(self.nvidia) or self.has_amd or self.has_intel


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A file that would be better and does not run here."""

    asset: AssetName
    reason: str  # what it needs, and what is here


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The files that fit, best first, and those before the best that do not."""

    fitting: tuple[AssetName, ...]
    passed_over: tuple[PassedOver, ...]


# Upstream builds on Ubuntu 22.04 (CPU and Vulkan, x64) and 24.04 (the rest): glibc, and N of GLIBCXX_3.4.N
# (30 came with GCC 12, 33 with GCC 14).
_OLD_SYSTEM = ((2, 35), 30)
_NEW_SYSTEM = ((2, 39), 33)
_GCC = {30: 12, 33: 14}
# The least driver of a toolkit by its major version ("CUDA minor version compatibility", NVIDIA), and the
# compute capabilities that its compiler makes code for.
_DRIVERS = {12: 525, 13: 580}
_OLDEST = {12: (5, 0), 13: (7, 5)}
_BLACKWELL_SINCE = (12, 8)


def rank(assets: Iterable[AssetName], facts: HostFacts, *, wanted: Backend | None = None) -> Ranking:
    """Order the files that run on this machine, those for its GPUs first.

    With `wanted` only those of one backend count.
    """
    here = (facts.system, facts.arch)
    ours = [asset for asset in assets if (asset.system, asset.arch) == here and not asset.is_runtime]
    order = (wanted,) if wanted else _backends(facts)
    ranked = sorted(
        (asset for asset in ours if asset.backend in order),
        key=lambda asset: (order.index(asset.backend), *(-part for part in asset.toolkit or (0, 0))),
    )
    reasons = [(asset, why_not(asset, facts)) for asset in ranked]
    fitting = tuple(asset for asset, reason in reasons if reason is None)
    best = ranked.index(fitting[0]) if fitting else len(ranked)
    passed_over = tuple(
        PassedOver(asset=asset, reason=reason) for asset, reason in reasons[:best] if reason is not None
    )
    return Ranking(fitting=fitting, passed_over=passed_over)


def runtime_of(asset: AssetName, assets: Iterable[AssetName]) -> AssetName | None:
    """Find the archive of CUDA's own libraries that belongs to a CUDA build."""
    return next(
        (
            other
            for other in assets
            if other.is_runtime
            and (other.system, other.arch, other.backend, other.toolkit)
            == (asset.system, asset.arch, asset.backend, asset.toolkit)
        ),
        None,
    )


def why_not(asset: AssetName, facts: HostFacts) -> str | None:
    """Return what the file needs and this machine has not; None if it should run."""
    return _why_not_system(asset, facts) or _why_not_gpu(asset, facts)


def _backends(facts: HostFacts) -> tuple[Backend, ...]:
    if facts.system == "darwin":
        return (Backend.METAL, Backend.CPU)
    order: list[Backend] = []
    if facts.nvidia:
        order.append(Backend.CUDA)
    if facts.has_amd and facts.rocm is not None:
        order.append(Backend.HIP)
    if facts.has_gpu:
        order.append(Backend.VULKAN)  # has the processor's code, too
    return (*order, Backend.CPU)


def _why_not_system(asset: AssetName, facts: HostFacts) -> str | None:
    if asset.system != "linux":
        return None
    if facts.glibc is None:
        return f"{asset.title} needs glibc, and this system has another C library"
    needed = _needed(asset)
    if needed is None:
        return None
    glibc, libstdcxx = needed
    if facts.glibc < glibc:
        return f"{asset.title} needs glibc {_dotted(glibc)}, here is {_dotted(facts.glibc)}"
    if facts.libstdcxx is not None and facts.libstdcxx < libstdcxx:
        return (
            f"{asset.title} needs the libstdc++ of GCC {_GCC[libstdcxx]} (GLIBCXX_3.4.{libstdcxx}), "
            f"here is GLIBCXX_3.4.{facts.libstdcxx}"
        )
    return None


def _needed(asset: AssetName) -> tuple[Version, int] | None:
    """Return the least system of a file; None where it is not known, and only a run tells."""
    if asset.backend is Backend.CUDA or asset.arch == "arm64":
        return _NEW_SYSTEM
    if asset.arch == "x64" and asset.backend in {Backend.CPU, Backend.VULKAN}:
        return _OLD_SYSTEM
    return None


def _why_not_gpu(asset: AssetName, facts: HostFacts) -> str | None:
    match asset.backend:
        case Backend.CUDA:
            return _why_not_cuda(asset, facts.nvidia)
        case Backend.HIP if asset.toolkit is not None and not _has_rocm(asset.toolkit, facts.rocm):
            here = "none is here" if facts.rocm is None else f"here is {_dotted(facts.rocm)}"
            return f"{asset.title} needs ROCm {_dotted(asset.toolkit)} installed, {here}"
        case Backend.VULKAN if not facts.has_vulkan:
            return "Vulkan needs its loader, libvulkan.so.1 (Debian calls it libvulkan1), which is not here"
        case _:
            return None


def _why_not_cuda(asset: AssetName, cards: tuple[NvidiaCard, ...]) -> str | None:
    if not cards:
        return f"{asset.title} needs an NVIDIA GPU with its driver, and none is here"
    if asset.toolkit is None:
        return None
    least = _DRIVERS.get(asset.toolkit[0])
    if least is None:
        return f"{asset.title} is not known here: which driver it needs cannot be said"
    for card in cards:
        if card.driver is not None and card.driver[0] < least:
            return f"{asset.title} needs NVIDIA's driver {least}, here is {_dotted(card.driver)}"
    reasons = (_why_not_card(asset, asset.toolkit, card.capability) for card in cards if card.capability)
    return next((reason for reason in reasons if reason is not None), None)


def _why_not_card(asset: AssetName, toolkit: Version, capability: Version) -> str | None:
    oldest = _OLDEST[toolkit[0]]
    if capability < oldest:
        return (
            f"{asset.title} has code for compute capability {_dotted(oldest)} and up, "
            f"here is {_dotted(capability)}"
        )
    if capability >= (10, 0) and toolkit < _BLACKWELL_SINCE:
        return (
            f"{asset.title} has no code for compute capability {_dotted(capability)}: "
            f"that takes CUDA {_dotted(_BLACKWELL_SINCE)}"
        )
    return None


def _has_rocm(needed: Version, here: Version | None) -> bool:
    # the names of its libraries change with the major version
    return here is not None and here[0] == needed[0] and here >= needed


def _dotted(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
