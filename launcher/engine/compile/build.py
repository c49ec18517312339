"""Builds the pinned llama.cpp into a folder of its own: all of it, or nothing that could be taken for it.

engines_dir/
  <key>/               a finished engine: llama-server, its libraries and sister programs, engine.json
  .build-<key>/        source and build trees while it is made; kept when interrupted, taken up again
  .locks/<key>         held by whoever builds <key>, and by the compilers a killed builder left behind
  logs/build-<key>.log everything cmake, ninja and the compilers said
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from launcher.engine.compile.build_log import Cause, explain, parse_step
from launcher.engine.compile.recipe import OUTPUT, build_key, cmake_arguments
from launcher.engine.compile.source import patch_vulkan, unpack
from launcher.engine.compile.toolchain import Toolchain, find_toolchain, install_hint
from launcher.engine.find import RECORD, RECORD_FORMAT, SERVER, BuildRecord, Engine, ask_engine, read_engine
from launcher.engine.host_cpu import HostCpu, host_cpu
from launcher.engine.pinned import LLAMA_CPP, Recipe
from launcher.errors import EngineFailed, Interrupted, LauncherError, TryAgain
from launcher.machine.machine import Backend
from launcher.progress import OnProgress, Step, silent
from launcher.system.locks import exclusive, exclusive_if_free
from launcher.system.packages import LLAMA_CPP_PYTHON, Package, fetch_package, sha256_of
from launcher.system.run_program import run_lines
from launcher.units import MIB, format_bytes

ROOM_BYTES = {Backend.CPU: 300 * MIB, Backend.METAL: 300 * MIB, Backend.VULKAN: 500 * MIB}
"""Measured at 0c1e570 with GCC 12: source 176 MiB + CPU build tree 63 MiB, Vulkan 264 MiB."""

GPU_ROOM_BYTES = 3072 * MIB
"""CUDA, HIP and SYCL: not measured; the objects of several hundred kernels for a few architectures."""

OnLine = Callable[[str], None]

_LINES_KEPT = 2000
_VARIABLES = ("CFLAGS", "CXXFLAGS", "LDFLAGS", "CUDAFLAGS", "HIPFLAGS")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """`engines_dir` and `packages_dir` are created as needed. `jobs` as from recipe.jobs_for;
    `architectures` as from recipe.cuda_architectures (empty: those of the cards in this machine)."""

    backend: Backend
    engines_dir: Path
    packages_dir: Path
    jobs: int
    architectures: tuple[str, ...] = ()
    recipe: Recipe = LLAMA_CPP
    package: Package = LLAMA_CPP_PYTHON


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One request, resolved against this machine: where everything lies and what is asked of cmake."""

    request: BuildRequest
    tools: Toolchain
    cpu: HostCpu
    arguments: tuple[str, ...]
    key: str

    @property
    def engine(self) -> Path:
        return self.request.engines_dir / self.key

    @property
    def tree(self) -> Path:
        return self.request.engines_dir / f".build-{self.key}"

    @property
    def log(self) -> Path:
        return self.request.engines_dir / "logs" / f"build-{self.key}.log"


def build_engine(request: BuildRequest, *, on_progress: OnProgress = silent) -> Engine:
    """The engine for this request, built if it is not there yet (minutes; then it takes milliseconds).

    Progress phases: `download` (bytes), `unpack`, `configure` (s), `build` (steps). Raises EngineFailed (no
    toolkit, no compiler, it does not compile), TryAgain (network, disk), Interrupted.
    """
    job = _resolve(request)
    built = read_engine(job.engine)
    if built is not None:
        return built
    try:
        lock = request.engines_dir / ".locks" / job.key
        waiting = Step(phase="wait", done=0, total=None, unit="s", text="another build of this engine runs")
        with exclusive(lock, on_wait=lambda: on_progress(waiting)) as held:
            return read_engine(job.engine) or _build(job, on_progress, held)
    except KeyboardInterrupt:
        raise Interrupted(
            "the build of the engine was interrupted", hint="launcher engine build goes on where it stopped"
        ) from None
    except OSError as error:
        raise _disk_error(job, error) from error


def _resolve(request: BuildRequest) -> _Job:
    tools = find_toolchain(request.backend)
    cpu = host_cpu()
    arguments = cmake_arguments(
        request.recipe,
        request.backend,
        architectures=request.architectures,
        apple=sys.platform == "darwin",
    )
    facts: dict[str, object] = {
        "arguments": arguments,
        "compiler": tools.compiler,
        "toolkit": tools.toolkit,
        "arch": cpu.arch,
        "isa": cpu.flags,
        "variables": {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)},
        "source": request.package.sha256,
    }
    key = build_key(request.recipe, request.backend, facts)
    return _Job(request=request, tools=tools, cpu=cpu, arguments=arguments, key=key)


def _build(job: _Job, on_progress: OnProgress, lock: int) -> Engine:
    """Under the lock. A failure clears the build tree; an interruption keeps what ninja can go on from."""
    _sweep(job)
    _check_room(job)
    archive = fetch_package(job.request.package, job.request.packages_dir, on_progress=on_progress)
    job.log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with job.log.open("w") as log:
            patched = _prepare_source(job, archive, on_progress)
            _configure(job, log, on_progress, lock)
            _compile(job, log, on_progress, lock)
        return _install(job, patched=patched)
    except (LauncherError, OSError):
        shutil.rmtree(job.tree, ignore_errors=True)
        raise


def _sweep(job: _Job) -> None:
    """Remove what killed builds of other keys left; a tree whose lock is held belongs to somebody."""
    for tree in job.request.engines_dir.glob(".build-*"):
        key = tree.name.removeprefix(".build-")
        if key == job.key:
            continue
        with exclusive_if_free(job.request.engines_dir / ".locks" / key) as free:
            if free:
                shutil.rmtree(tree, ignore_errors=True)


def _check_room(job: _Job) -> None:
    needed = ROOM_BYTES.get(job.request.backend, GPU_ROOM_BYTES)
    free = shutil.disk_usage(job.request.engines_dir).free
    if free < needed and not job.tree.exists():
        raise TryAgain(
            f"building the engine needs {format_bytes(needed)} in {job.request.engines_dir}, "
            f"{format_bytes(free)} are free",
            hint="free some space, or set LAUNCHER_HOME to a folder elsewhere",
        )


def _prepare_source(job: _Job, archive: Path, on_progress: OnProgress) -> bool:
    """Unpack and patch, unless an interrupted build of this key did so to the end. Whether it is patched."""
    done = job.tree / "unpacked"
    try:
        return done.read_text() == "patched"
    except OSError:
        shutil.rmtree(job.tree, ignore_errors=True)
    on_progress(Step(phase="unpack", done=0, total=None, unit="s", text=archive.name))
    source = job.tree / "source"
    unpack(archive, job.request.recipe.subtree, source)
    patched = patch_vulkan(source, job.tools.vulkan_headers)
    done.write_text("patched" if patched else "as it is")
    return patched


def _configure(job: _Job, log: TextIO, on_progress: OnProgress, lock: int) -> None:
    on_progress(Step(phase="configure", done=0, total=None, unit="s", text=job.tools.compiler))
    tools = job.tools
    done = job.tree / "configured"
    if not done.exists():  # a cmake that was killed may leave a half-written cache
        shutil.rmtree(job.tree / "build", ignore_errors=True)
    command: tuple[str | Path, ...] = (
        *(tools.cmake, "-S", job.tree / "source", "-B", job.tree / "build", "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={tools.ninja}",
        f"-DCMAKE_C_COMPILER={tools.c}",
        f"-DCMAKE_CXX_COMPILER={tools.cxx}",
        f"-DGGML_CCACHE={'ON' if tools.ccache else 'OFF'}",
        *tools.settings,
        *job.arguments,
    )
    _run(job, command, log, lock, on_line=lambda _line: None)
    done.touch()


def _compile(job: _Job, log: TextIO, on_progress: OnProgress, lock: int) -> None:
    best = 0
    whole = 0

    def watch(line: str) -> None:
        nonlocal best, whole
        step = parse_step(line)
        # vulkan-shaders-gen is a build of its own inside this one: its [1/3] is not our count.
        if step is not None and step[1] >= whole and step[0] >= best:
            best, whole = step[0], step[1]
            on_progress(Step(phase="build", done=best, total=whole, unit="steps", text=_short(step[2])))

    on_progress(Step(phase="build", done=0, total=None, unit="steps"))
    command: tuple[str | Path, ...] = (
        *(job.tools.ninja, "-C", job.tree / "build", "-j", str(job.request.jobs)),
        *job.request.recipe.targets,
    )
    _run(job, command, log, lock, on_line=watch)


def _run(job: _Job, command: tuple[str | Path, ...], log: TextIO, lock: int, *, on_line: OnLine) -> None:
    """One tool, its output in the log. Raises EngineFailed or TryAgain with the telling lines."""
    last: deque[str] = deque(maxlen=_LINES_KEPT)

    def keep(line: str) -> None:
        log.write(line + "\n")
        last.append(line)
        on_line(line)

    log.write("$ " + " ".join(map(str, command)) + "\n")
    # Paths below the build tree enter ccache's keys relative to the working folder, and are thus the same
    # for every home; NOHASHDIR leaves the working folder itself out.
    environment = {
        **os.environ,
        **dict(job.tools.environment),
        "NINJA_STATUS": "[%f/%t] ",
        "CCACHE_BASEDIR": str(job.tree),
        "CCACHE_NOHASHDIR": "1",
        "CLICOLOR_FORCE": "0",
        "LC_ALL": "C",
    }
    status = run_lines(command, on_line=keep, env=environment, keep_open=(lock,))
    if status != 0:
        raise _failure(job, status, tuple(last))


def _install(job: _Job, *, patched: bool) -> Engine:
    """Prove that it runs, write the record, sync, rename: from then on it is there."""
    made = job.tree / "build" / OUTPUT
    server = made / SERVER
    said = ask_engine(server, "--version")
    if job.request.recipe.commit not in said:
        raise EngineFailed(
            f"the engine that was built does not call itself {job.request.recipe.commit}: {said.strip()}",
            hint=f"see {job.log}",
        )
    record = BuildRecord(
        key=job.key,
        version=job.request.recipe.version,
        commit=job.request.recipe.commit,
        backend=job.request.backend,
        arguments=job.arguments,
        compiler=job.tools.compiler,
        toolkit=job.tools.toolkit,
        arch=job.cpu.arch,
        isa=job.cpu.flags,
        patched=patched,
        built_at=int(time.time()),
        sha256=sha256_of(server),
    )
    text = json.dumps({"format": RECORD_FORMAT, **dataclasses.asdict(record)}, indent=2)
    (made / RECORD).write_text(text + "\n")
    for path in made.iterdir():
        _sync(path)
    _sync(made)
    shutil.rmtree(job.engine, ignore_errors=True)  # a folder without a readable record
    made.rename(job.engine)
    _sync(job.engine.parent)
    shutil.rmtree(job.tree, ignore_errors=True)
    engine = read_engine(job.engine)
    if engine is None:
        raise EngineFailed(f"{job.engine} is gone since it was built", hint="launcher engine build")
    return engine


def _failure(job: _Job, status: int, output: tuple[str, ...]) -> LauncherError:
    failure = explain(output)
    if failure.cause is Cause.DISK:
        return TryAgain(
            f"the disk is full: building the engine in {job.request.engines_dir} stopped",
            hint="free some space and run the same command again",
        )
    if failure.cause is Cause.MEMORY:
        return EngineFailed(
            f"the compiler ran out of memory with {job.request.jobs} jobs; log: {job.log}",
            hint="launcher engine build --jobs 1",
        )
    if failure.cause is Cause.COMPILER:
        return EngineFailed(
            f"{job.tools.cxx} cannot compile a program; log: {job.log}", hint=install_hint("compiler")
        )
    said = "\n  ".join(failure.lines)
    return EngineFailed(
        f"the engine did not build (status {status}); log: {job.log}\n  {said}",
        hint="use a llama-server you have: --engine PATH"
        + ("" if job.request.backend is Backend.CPU else ", or launcher engine build --backend cpu"),
    )


def _disk_error(job: _Job, error: OSError) -> LauncherError:
    where = error.filename or job.request.engines_dir
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return TryAgain(
        f"the engine cannot be built in {job.request.engines_dir}: {error.strerror or error} ({where})",
        hint=("free some space" if full else "mend the folder's permissions")
        + ", or set LAUNCHER_HOME to a folder elsewhere",
    )


def _sync(path: Path) -> None:
    """To the disk: after a power cut a renamed folder must not hold empty files."""
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _short(text: str) -> str:
    """`Building CXX object src/CMakeFiles/llama.dir/llama-model.cpp.o` -> `llama-model.cpp`."""
    return text.rsplit("/", 1)[-1].removesuffix(".o")
