"""Read the names of a release's files. PURE."""

from __future__ import annotations

import re
from dataclasses import dataclass

from launcher.machine.machine import Backend

# llama-b11026-bin-ubuntu-cuda-12.8-x64.tar.gz. The names have changed before (`.zip` until 2026, other
# toolkits every few weeks), so their words are read in any order; a name with an unknown word is passed over.
_SUFFIX = re.compile(r"\.(?:tar\.gz|tgz|zip)$")
_WORD = re.compile(r"[a-z0-9_.]{1,40}")
_VERSION = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}")
_TAG = re.compile(r"b[0-9]{1,9}")
_SYSTEMS = {"ubuntu": "linux", "linux": "linux", "macos": "darwin", "darwin": "darwin"}
_ARCHES = {
    "x64": "x64", "x86_64": "x64", "amd64": "x64", "arm64": "arm64", "aarch64": "arm64", "s390x": "s390x",
}  # fmt: skip
_BACKENDS = {
    "cpu": Backend.CPU,
    "cuda": Backend.CUDA,
    "rocm": Backend.HIP,
    "hip": Backend.HIP,
    "vulkan": Backend.VULKAN,
    "sycl": Backend.SYCL,
    "metal": Backend.METAL,
}
_IDLE = frozenset({"llama", "llama.cpp", "bin", "fp16"})  # words that say nothing more

_TITLES = {Backend.CPU: "CPU", Backend.CUDA: "CUDA", Backend.HIP: "ROCm", Backend.METAL: "Metal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetName:
    """What a file of a release is for."""

    file: str
    tag: str
    system: str  # linux, darwin
    arch: str  # x64, arm64, s390x
    backend: Backend
    toolkit: tuple[int, int] | None  # of CUDA and ROCm
    is_runtime: bool  # CUDA's own libraries, without llama.cpp

    @property
    def title(self) -> str:
        """Its backend as users call it: `CUDA 13.3`, `Vulkan`."""
        name = _TITLES.get(self.backend, self.backend.value.capitalize())
        return name if self.toolkit is None else f"{name} {self.toolkit[0]}.{self.toolkit[1]}"


def parse_asset_name(file: str) -> AssetName | None:
    """Return what a file is for; None if its name says nothing that is known here."""
    suffix = _SUFFIX.search(file)
    if suffix is None or not file.isascii() or len(file) > 200:
        return None
    words = file[: suffix.start()].lower().split("-")
    if not all(_WORD.fullmatch(word) for word in words):
        return None
    is_runtime = words[0] == "cudart"
    rest = [word for word in words[is_runtime:] if word not in _IDLE]
    tags = [word for word in rest if _TAG.fullmatch(word)]
    systems = [_SYSTEMS[word] for word in rest if word in _SYSTEMS]
    arches = [_ARCHES[word] for word in rest if word in _ARCHES]
    backends = [_BACKENDS[word] for word in rest if word in _BACKENDS]
    versions = [word for word in rest if _VERSION.fullmatch(word)]
    known = len(tags) + len(systems) + len(arches) + len(backends) + len(versions)
    counts = (len(tags), len(systems), len(arches))
    if counts != (1, 1, 1) or len(backends) > 1 or len(versions) > 1 or known < len(rest):
        return None
    usual = Backend.METAL if systems[0] == "darwin" and arches[0] == "arm64" else Backend.CPU
    toolkit = tuple(map(int, versions[0].split("."))) if versions else None
    return AssetName(
        file=file,
        tag=tags[0],
        system=systems[0],
        arch=arches[0],
        backend=backends[0] if backends else usual,
        toolkit=(toolkit[0], toolkit[1]) if toolkit else None,
        is_runtime=is_runtime,
    )


def is_tag(text: str) -> bool:
    """Tell if this is the tag of a build: b11026."""
    return _TAG.fullmatch(text) is not None
