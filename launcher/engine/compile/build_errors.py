"""Explain why an engine could not be built."""

from __future__ import annotations

import errno
import shutil

from launcher.engine.compile.build_log import BuildFault, read_failure
from launcher.engine.compile.job import BuildJob
from launcher.engine.compile.toolchain import install_hint
from launcher.errors import EngineFailed, LauncherError, TryAgain
from launcher.machine.machine import Backend
from launcher.units import MIB, format_bytes

# Measured at 0c1e570 with GCC 12: source 176 MiB + CPU build tree 63 MiB, Vulkan 264 MiB.
_DISK_BYTES = {Backend.CPU: 300 * MIB, Backend.METAL: 300 * MIB, Backend.VULKAN: 500 * MIB}
# CUDA, HIP and SYCL: not measured; the objects of several hundred kernels for a few architectures.
_GPU_DISK_BYTES = 3072 * MIB


def refuse_too_little_disk(job: BuildJob) -> None:
    """Raise TryAgain if the disk cannot hold a build that has not begun."""
    needed = _DISK_BYTES.get(job.request.backend, _GPU_DISK_BYTES)
    free = shutil.disk_usage(job.request.engines_dir).free
    # A tree that is there already holds much of what it needs.
    if free < needed and not job.tree.exists():
        raise TryAgain(
            f"building the engine needs {format_bytes(needed)} in {job.request.engines_dir}, "
            f"{format_bytes(free)} are free",
            hint="free some space, or set LAUNCHER_HOME to a folder elsewhere",
        )


def build_failure(job: BuildJob, status: int, output: tuple[str, ...]) -> LauncherError:
    """Explain why cmake or ninja ended with `status`."""
    failure = read_failure(output)
    if failure.fault is BuildFault.DISK:
        return TryAgain(
            f"the disk is full: building the engine in {job.request.engines_dir} stopped",
            hint="free some space and run the same command again",
        )
    if failure.fault is BuildFault.MEMORY:
        return EngineFailed(
            f"the compiler ran out of memory with {job.request.jobs} jobs; log: {job.log}",
            hint="launcher engine build --jobs 1",
        )
    if failure.fault is BuildFault.COMPILER:
        return EngineFailed(
            f"{job.tools.cxx} cannot compile a program; log: {job.log}", hint=install_hint("compiler")
        )
    errors = "\n  ".join(failure.lines)
    return EngineFailed(
        f"the engine did not build (status {status}); log: {job.log}\n  {errors}",
        hint="use a llama-server you have: --engine PATH"
        + ("" if job.request.backend is Backend.CPU else ", or launcher engine build --backend cpu"),
    )


def build_disk_error(job: BuildJob, error: OSError) -> LauncherError:
    where = error.filename or job.request.engines_dir
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return TryAgain(
        f"the engine cannot be built in {job.request.engines_dir}: {error.strerror or error} ({where})",
        hint=("free some space" if full else "mend the folder's permissions")
        + ", or set LAUNCHER_HOME to a folder elsewhere",
    )
