"""Build the pinned llama.cpp into a folder of its own: whole, or not at all.

engines_dir/
  <key>/               a finished engine: llama-server, its libraries and sister programs, engine.json
  .build-<key>/        source and build trees while it is made; kept when interrupted, continued later
  .locks/<key>         held by whoever builds <key>, and by the compilers a killed builder left behind
  logs/build-<key>.log everything cmake, ninja and the compilers printed
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from launcher.engine.compile.build_errors import build_disk_error, build_failure, refuse_too_little_disk
from launcher.engine.compile.build_log import parse_step
from launcher.engine.compile.cuda_packages import copy_libraries
from launcher.engine.compile.install import install_engine
from launcher.engine.compile.job import BuildJob, BuildRequest, resolve_job
from launcher.engine.compile.recipe import OUTPUT, cmake_leftovers
from launcher.engine.compile.source import (
    copy_tree,
    keep_backends_private,
    patch_cpu,
    patch_vulkan,
    unpack,
)
from launcher.engine.find import Engine, read_engine
from launcher.errors import Interrupted, LauncherError, UsageError
from launcher.progress import OnProgress, Step, silent
from launcher.system.locks import exclusive, exclusive_if_free
from launcher.system.packages import fetch_package
from launcher.system.run_program import run_lines

_OnLine = Callable[[str], None]

_LINES_KEPT = 2000  # of a tool's output, for the error message


def build_engine(request: BuildRequest, *, on_progress: OnProgress = silent) -> Engine:
    """Return the engine for this request, as `build_engines` does for several."""
    return build_engines((request,), on_progress=on_progress)[0]


def build_engines(
    requests: Sequence[BuildRequest], *, on_progress: OnProgress = silent
) -> tuple[Engine, ...]:
    """Return the engines of one source for several backends, built now (minutes) or before (milliseconds).

    Those to build share a tree: what they have in common is compiled once. Progress phases: `download`
    (bytes), `unpack`, `configure` (s), `build` (steps). Raises EngineFailed (no toolkit, no compiler, it does
    not compile), TryAgain (network, disk), Interrupted.
    """
    jobs = [resolve_job(request) for request in requests]
    if len({job.tools.cxx for job in jobs}) > 1:
        raise UsageError(
            f"{' and '.join(job.request.backend for job in jobs)} are built by different compilers",
            hint="launcher engine build, with one --backend after the other",
        )
    waiting = Step(phase="wait", done=0, total=None, unit="s", text="another build of this engine runs")
    try:
        with ExitStack() as locks:
            held = []
            # in the order of their keys: two who want the same engines never wait for each other
            for job in sorted(jobs, key=lambda job: job.key):
                if read_engine(job.engine) is None:
                    lock = job.request.engines_dir / ".locks" / job.key
                    held.append(locks.enter_context(exclusive(lock, on_wait=lambda: on_progress(waiting))))
            found = {job.key: engine for job in jobs if (engine := read_engine(job.engine)) is not None}
            missing = [job for job in jobs if job.key not in found]
            if missing:
                shared = [replace(job, tree_key=missing[0].key) for job in missing]
                found |= _build(shared, on_progress, tuple(held))
            return tuple(found[job.key] for job in jobs)
    except KeyboardInterrupt:
        raise Interrupted(
            "the build of the engine was interrupted", hint="launcher engine build goes on where it stopped"
        ) from None
    except OSError as error:
        raise build_disk_error(jobs[0], error) from error


def _build(jobs: Sequence[BuildJob], on_progress: OnProgress, locks: tuple[int, ...]) -> dict[str, Engine]:
    """Build one engine after the other in the tree of the first; return them by their keys."""
    first = jobs[0]
    _sweep(first)
    refuse_too_little_disk(first)
    request = first.request
    given = request.source_dir or fetch_package(
        request.package, request.packages_dir, on_progress=on_progress
    )
    first.log.parent.mkdir(parents=True, exist_ok=True)
    built: dict[str, Engine] = {}
    try:
        patched = _prepare_source(jobs, given, on_progress)
        before: tuple[str, ...] = ()
        for job in jobs:
            with job.log.open("w") as log:
                tools = _Tools(job=job, log=log, locks=locks)
                _configure(tools, cmake_leftovers(before, job.arguments), on_progress)
                _compile(tools, on_progress)
            if job.request.toolkit is not None:
                copy_libraries(job.request.toolkit, job.tree / "build" / OUTPUT)
            # renames the programs away, so the next build links its own
            built[job.key] = install_engine(job, patched=patched and job.tools.vulkan_headers is not None)
            before = job.arguments
    except (LauncherError, OSError):
        # A failed tree may be broken in ways nobody can know. Ctrl-C leaves it: ninja goes on from there.
        shutil.rmtree(first.tree, ignore_errors=True)
        raise
    shutil.rmtree(first.tree, ignore_errors=True)
    return built


def _sweep(job: BuildJob) -> None:
    """Remove trees that killed builds of other keys left behind."""
    for tree in job.request.engines_dir.glob(".build-*"):
        key = tree.name.removeprefix(".build-")
        if key == job.key:
            continue
        with exclusive_if_free(job.request.engines_dir / ".locks" / key) as free:
            if free:  # else another process builds it
                shutil.rmtree(tree, ignore_errors=True)


def _prepare_source(jobs: Sequence[BuildJob], given: Path, on_progress: OnProgress) -> bool:
    """Unpack or copy the given source, and patch it, once; return True if it was patched for Vulkan."""
    job = jobs[0]
    done = job.tree / "unpacked"  # an interrupted build of this key unpacked and patched everything
    try:
        return done.read_text() == "patched"
    except OSError:
        shutil.rmtree(job.tree, ignore_errors=True)
    source = job.tree / "source"
    on_progress(Step(phase="unpack", done=0, total=None, unit="s", job=given.name))
    if job.request.source_dir is None:
        unpack(given, job.request.recipe.subtree, source)
    else:
        copy_tree(given, source)
    headers = (each.tools.vulkan_headers for each in jobs)
    patched = patch_vulkan(source, next((version for version in headers if version is not None), None))
    patch_cpu(source)
    if len(jobs) > 1:
        keep_backends_private(source)
    done.write_text("patched" if patched else "as it is")
    return patched


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tools:
    """The tools of a build as they are run: their output in its log, its locks with them."""

    job: BuildJob
    log: TextIO
    locks: tuple[int, ...]


def _configure(run: _Tools, leftovers: tuple[str, ...], on_progress: OnProgress) -> None:
    job = run.job
    on_progress(Step(phase="configure", done=0, total=None, unit="s", text=job.tools.compiler))
    tools = job.tools
    done = job.tree / "configured"
    if not done.exists():  # a cmake that was killed may leave a half-written cache
        shutil.rmtree(job.tree / "build", ignore_errors=True)
    done.unlink(missing_ok=True)
    command: tuple[str | Path, ...] = (
        *(tools.cmake, "-S", job.tree / "source", "-B", job.tree / "build", "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={tools.ninja}",
        f"-DCMAKE_C_COMPILER={tools.c}",
        f"-DCMAKE_CXX_COMPILER={tools.cxx}",
        f"-DGGML_CCACHE={'ON' if tools.ccache else 'OFF'}",
        *leftovers,
        # ik_llama.cpp says only where programs go, and its libraries would stay in build/src
        f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={job.tree / 'build' / OUTPUT}",
        *tools.settings,
        *job.arguments,
    )
    _run(run, command, on_line=lambda _line: None)
    done.touch()


def _compile(run: _Tools, on_progress: OnProgress) -> None:
    job = run.job
    highest = 0
    most = 0

    def watch(line: str) -> None:
        nonlocal highest, most
        step = parse_step(line)
        if step is None:
            return
        done, total, text = step
        # vulkan-shaders-gen is a build of its own inside this one: its [1/3] is not our count.
        if total >= most and done >= highest:
            highest, most = done, total
            on_progress(Step(phase="build", done=done, total=total, unit="steps", text=_short(text)))

    on_progress(Step(phase="build", done=0, total=None, unit="steps"))
    command: tuple[str | Path, ...] = (
        *(job.tools.ninja, "-C", job.tree / "build", "-j", str(job.request.jobs)),
        *job.request.recipe.targets,
    )
    _run(run, command, on_line=watch)


def _run(run: _Tools, command: tuple[str | Path, ...], *, on_line: _OnLine) -> None:
    """Run a tool. Raises EngineFailed or TryAgain."""
    job = run.job
    last: deque[str] = deque(maxlen=_LINES_KEPT)

    def keep(line: str) -> None:
        run.log.write(line + "\n")
        last.append(line)
        on_line(line)

    run.log.write("$ " + " ".join(map(str, command)) + "\n")
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
    # The tools inherit the locks: after a kill -9 of ours the next builder waits for them.
    status = run_lines(command, on_line=keep, env=environment, keep_open=run.locks)
    if status != 0:
        raise build_failure(job, status, tuple(last))


def _short(text: str) -> str:
    # `Building CXX object src/CMakeFiles/llama.dir/llama-model.cpp.o` -> `llama-model.cpp`
    return text.rsplit("/", 1)[-1].removesuffix(".o")
