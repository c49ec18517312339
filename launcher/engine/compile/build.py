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
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from launcher.engine.compile.build_errors import build_disk_error, build_failure, refuse_too_little_disk
from launcher.engine.compile.build_log import parse_step
from launcher.engine.compile.install import install_engine
from launcher.engine.compile.job import BuildJob, BuildRequest, resolve_job
from launcher.engine.compile.source import copy_tree, patch_vulkan, unpack
from launcher.engine.find import Engine, read_engine
from launcher.errors import Interrupted, LauncherError
from launcher.progress import OnProgress, Step, silent
from launcher.system.locks import exclusive, exclusive_if_free
from launcher.system.packages import fetch_package
from launcher.system.run_program import run_lines

_OnLine = Callable[[str], None]

_LINES_KEPT = 2000  # of a tool's output, for the error message


def build_engine(request: BuildRequest, *, on_progress: OnProgress = silent) -> Engine:
    """Return the engine for this request, built now (minutes) or before (milliseconds).

    Progress phases: `download` (bytes), `unpack`, `configure` (s), `build` (steps). Raises EngineFailed (no
    toolkit, no compiler, it does not compile), TryAgain (network, disk), Interrupted.
    """
    job = resolve_job(request)
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
        raise build_disk_error(job, error) from error


def _build(job: BuildJob, on_progress: OnProgress, lock: int) -> Engine:
    _sweep(job)
    refuse_too_little_disk(job)
    request = job.request
    given = request.source_dir or fetch_package(
        request.package, request.packages_dir, on_progress=on_progress
    )
    job.log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with job.log.open("w") as log:
            patched = _prepare_source(job, given, on_progress)
            _configure(job, log, on_progress, lock)
            _compile(job, log, on_progress, lock)
        return install_engine(job, patched=patched)
    except (LauncherError, OSError):
        # A failed tree may be broken in ways nobody can know. Ctrl-C leaves it: ninja goes on from there.
        shutil.rmtree(job.tree, ignore_errors=True)
        raise


def _sweep(job: BuildJob) -> None:
    """Remove trees that killed builds of other keys left behind."""
    for tree in job.request.engines_dir.glob(".build-*"):
        key = tree.name.removeprefix(".build-")
        if key == job.key:
            continue
        with exclusive_if_free(job.request.engines_dir / ".locks" / key) as free:
            if free:  # else another process builds it
                shutil.rmtree(tree, ignore_errors=True)


def _prepare_source(job: BuildJob, given: Path, on_progress: OnProgress) -> bool:
    """Unpack or copy the given source, and patch it, once; return True if it was patched."""
    done = job.tree / "unpacked"  # an interrupted build of this key unpacked and patched everything
    try:
        return done.read_text() == "patched"
    except OSError:
        shutil.rmtree(job.tree, ignore_errors=True)
    source = job.tree / "source"
    on_progress(Step(phase="unpack", done=0, total=None, unit="s", text=given.name))
    if job.request.source_dir is None:
        unpack(given, job.request.recipe.subtree, source)
    else:
        copy_tree(given, source)
    patched = patch_vulkan(source, job.tools.vulkan_headers)
    done.write_text("patched" if patched else "as it is")
    return patched


def _configure(job: BuildJob, log: TextIO, on_progress: OnProgress, lock: int) -> None:
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


def _compile(job: BuildJob, log: TextIO, on_progress: OnProgress, lock: int) -> None:
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
    _run(job, command, log, lock, on_line=watch)


def _run(job: BuildJob, command: tuple[str | Path, ...], log: TextIO, lock: int, *, on_line: _OnLine) -> None:
    """Run a tool, its output in the log. Raises EngineFailed or TryAgain."""
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
    # The tools inherit the lock: after a kill -9 of ours the next builder waits for them.
    status = run_lines(command, on_line=keep, env=environment, keep_open=(lock,))
    if status != 0:
        raise build_failure(job, status, tuple(last))


def _short(text: str) -> str:
    # `Building CXX object src/CMakeFiles/llama.dir/llama-model.cpp.o` -> `llama-model.cpp`
    return text.rsplit("/", 1)[-1].removesuffix(".o")
