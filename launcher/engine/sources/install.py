"""Install an engine that was built elsewhere: fetched, unpacked, tried, renamed into place.

engines_dir/
  <key>/          a finished engine: b11026-vulkan-1f0c29ab, by the sha256 of its archive
  .install-<key>/ unpacked, not yet tried; removed by the next install
  .downloads/     archives on their way, continued after a kill; gone when installed
  .locks/install  held while one is installed
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from launcher.engine.ask import ask_engine
from launcher.engine.find import SERVER, BuildRecord, Engine, Origin, backends_in, read_engine
from launcher.engine.flags.help_text import Version, parse_version
from launcher.engine.host_cpu import host_cpu
from launcher.engine.placing import put_in_place
from launcher.engine.sources.assets import is_tag
from launcher.engine.sources.cpu_code import compiled_flags
from launcher.engine.sources.source import Offer, Source
from launcher.errors import EngineFailed, UsageError
from launcher.machine.machine import Backend, Device
from launcher.machine.probe.device_list import parse_device_list
from launcher.models.files.disk_space import Destination, disk_error
from launcher.progress import OnProgress, Step, silent
from launcher.system.locks import exclusive, exclusive_if_free
from launcher.system.packages import sha256_of

_ELF = b"\x7fELF"
_LIBRARY = re.compile(r"lib[A-Za-z0-9_+.-]+\.so[0-9.]*|lib[A-Za-z0-9_+.-]+\.dylib")
# Which backend an engine is for, by its libraries: the first that is there.
_BY_LIBRARY = (
    ("cuda", Backend.CUDA), ("hip", Backend.HIP), ("sycl", Backend.SYCL), ("vulkan", Backend.VULKAN),
    ("metal", Backend.METAL),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """What an engine said when it ran."""

    version: Version
    devices: tuple[Device, ...]
    flags: tuple[str, ...]  # of the processor, that its code takes for granted


def install_engine(
    source: Source, offer: Offer, engines_dir: Path, *, on_progress: OnProgress = silent
) -> Engine:
    """Return the engine of this offer, installed now or before.

    Raises EngineFailed if it does not run here, UsageError for an archive that is not unpacked, and what
    fetching raises.
    """
    there = find_installed(offer, engines_dir)
    if there is not None:
        _sweep_if_idle(engines_dir)
        return there
    waiting = Step(phase="wait", done=0, total=None, unit="s", text="another engine is being installed")
    try:
        with exclusive(install_lock(engines_dir), on_wait=lambda: on_progress(waiting)):
            return find_installed(offer, engines_dir) or _install(source, offer, engines_dir, on_progress)
    except OSError as error:
        destination = Destination(folder=engines_dir, alternative="set LAUNCHER_HOME to a folder elsewhere")
        raise disk_error(error, destination) from error


def install_lock(engines_dir: Path) -> Path:
    """Return the lock that is held while an engine is installed or removed."""
    return engines_dir / ".locks" / "install"


def _sweep(engines_dir: Path) -> None:
    """Remove what an install that was killed has unpacked; the caller holds the lock."""
    for left in engines_dir.glob(".install-*"):
        shutil.rmtree(left, ignore_errors=True)


def _sweep_if_idle(engines_dir: Path) -> None:
    with contextlib.suppress(OSError), exclusive_if_free(install_lock(engines_dir)) as free:
        if free:
            _sweep(engines_dir)
            shutil.rmtree(engines_dir / ".downloads", ignore_errors=True)


def find_installed(offer: Offer, engines_dir: Path) -> Engine | None:
    """Return the engine of this offer if it is here; None also where only its archive would tell."""
    if offer.version is None or offer.backend is None or offer.sha256 is None:
        return None
    return read_engine(engines_dir / _key(offer.version, offer.backend, offer.sha256))


def _key(version: str, backend: Backend, sha256: str) -> str:
    return f"{version}-{backend}-{sha256[:8]}"


def _install(source: Source, offer: Offer, engines_dir: Path, on_progress: OnProgress) -> Engine:
    _sweep(engines_dir)
    downloads = engines_dir / ".downloads"
    archives = source.fetch(offer, downloads, on_progress)
    sha256 = offer.sha256 or sha256_of(archives[0])
    stage = engines_dir / f".install-{sha256[:16]}"
    on_progress(Step(phase="unpack", done=0, total=None, unit="s", job=archives[0].name))
    try:
        stage.mkdir(parents=True)
        source.unpack(archives, stage / "unpacked")
        folder = _gather(stage / "unpacked")
        on_progress(
            Step(phase="unpack", done=0, total=None, unit="s", job=archives[0].name, text="trying it")
        )
        tried = _try(folder, offer)
        record = _record(offer, folder, tried, sha256)
        engine = read_engine(engines_dir / record.key) or put_in_place(
            folder, record, engines_dir / record.key
        )
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    shutil.rmtree(downloads, ignore_errors=True)  # archives that older, killed installs left, too
    return engine


def _gather(unpacked: Path) -> Path:
    """Return the folder with llama-server; bring licences, and the libraries of a second archive, there."""
    servers = [path for path in unpacked.rglob(SERVER) if path.is_file() and not path.is_symlink()]
    if len(servers) != 1:
        found = "no llama-server" if not servers else f"{len(servers)} programs called llama-server"
        raise UsageError(f"the archive has {found}", hint="launcher engine install takes one that has it")
    folder = servers[0].parent
    for path in sorted((*unpacked.rglob("*.so*"), *unpacked.rglob("*LICENSE*"))):
        taken = _LIBRARY.fullmatch(path.name) or (path.is_file() and "LICENSE" in path.name)
        if path.is_symlink() and len(path.readlink().parts) > 1:
            continue  # from another folder it would lead elsewhere, out of the engine's own too
        if path.parent != folder and taken and not (folder / path.name).exists():
            path.rename(folder / path.name)
    for path in folder.iterdir():
        if not path.is_symlink() and path.is_file() and not _LIBRARY.fullmatch(path.name) and _is_elf(path):
            path.chmod(0o755)  # a wheel knows no modes
    return folder


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == _ELF


def _try(folder: Path, offer: Offer) -> _Tried:
    """Run the engine twice. Raises EngineFailed if it does not run, or sees no GPU where there is one."""
    said = ask_engine(folder / SERVER, "--version")
    version = parse_version(said)
    if version is None:
        raise EngineFailed(
            f"{offer.title} is no llama-server: its --version says {said.strip()[:80]!r}",
            hint="launcher engine install takes one that is",
        )
    if offer.version is not None and is_tag(offer.version) and version.tag not in {None, offer.version}:
        raise EngineFailed(
            f"{offer.file} was listed as {offer.version}, and its llama-server calls itself {version.tag}",
            hint="launcher engine install wheel",
        )
    flags = compiled_flags(folder)
    missing = [flag for flag in flags if flag not in host_cpu().flags]
    if missing:
        raise EngineFailed(
            f"{offer.title} was compiled for a processor with {', '.join(missing)}, which this one has not",
            hint="launcher engine install",
        )
    devices = parse_device_list(ask_engine(folder / SERVER, "--list-devices"))
    if offer.expects_gpu and all(device.is_software for device in devices):
        raise EngineFailed(
            f"{offer.title} runs here and lists no GPU, although this machine has one",
            hint="update the GPU's driver, or launcher engine build",
        )
    return _Tried(version=version, devices=devices, flags=flags)


def _record(offer: Offer, folder: Path, tried: _Tried, sha256: str) -> BuildRecord:
    version = offer.version or _version_name(tried.version)
    backend = offer.backend or _backend_of(folder)
    return BuildRecord(
        key=_key(version, backend, sha256),
        version=version,
        commit=tried.version.commit or "unknown",
        backend=backend,
        arguments=(),
        compiler=tried.version.compiler or "unknown",
        toolkit=None,
        arch=host_cpu().arch,
        isa=tried.flags,
        patched=False,
        built_at=int(time.time()),
        sha256=sha256_of(folder / SERVER),
        origin=Origin(kind=offer.kind, made_by=offer.made_by, file=offer.file, sha256=sha256),
    )


def _version_name(version: Version) -> str:
    if version.tag is not None:
        return version.tag
    return f"b{version.text}" if version.text.isdigit() else re.sub(r"[^A-Za-z0-9.]", "_", version.text)[:40]


def _backend_of(folder: Path) -> Backend:
    there = backends_in(folder)
    return next((backend for library, backend in _BY_LIBRARY if library in there), Backend.CPU)
