"""Start the supervisor of a recorded deployment, as a systemd unit or a process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from launcher.deployment.identity import ProcessId
from launcher.deployment.install import transient
from launcher.deployment.install.systemd import unit_name
from launcher.deployment.log_file import open_log
from launcher.deployment.options import supervisor_command
from launcher.deployment.process import MARKER, cannot_run, start_process
from launcher.deployment.record import Deployment
from launcher.deployment.records import marker_of, save_record, state_path
from launcher.engine.flags.taskset import split_taskset
from launcher.errors import EngineFailed


def start_supervisor(folder: Path, deployment: Deployment, env: Mapping[str, str], cwd: Path) -> ProcessId:
    """Start the supervisor. Raises NotFound, NotAllowed, EngineFailed, TryAgain."""
    # A program that cannot be run is reported now, not by the supervisor.
    _, (program, *_) = split_taskset(deployment.argv)
    for usable, error in ((os.F_OK, FileNotFoundError()), (os.X_OK, PermissionError())):
        if not os.access(program, usable):
            raise cannot_run(program, error)
    if deployment.options.keep_up and transient.is_available(env):
        # An older systemd, or one with a unit of that name, counts as none.
        with contextlib.suppress(EngineFailed):
            return _start_unit(folder, deployment, env, cwd)
        save_record(folder, deployment)
    return start_process(
        supervisor_command(state_path(folder, deployment.name).absolute()),
        env,
        Path(deployment.log_path),
        marker=marker_of(folder, deployment.name),
        cwd=cwd,
    )


def _start_unit(folder: Path, deployment: Deployment, env: Mapping[str, str], cwd: Path) -> ProcessId:
    unit = unit_name(deployment.name)
    # The record names the unit before it is started, so that `stop` finds it whatever happens to us.
    save_record(folder, replace(deployment, unit=unit))
    log = Path(deployment.log_path)
    os.close(open_log(log))
    return transient.start_unit(
        transient.Service(
            unit=unit,
            title=deployment.model_id,
            argv=supervisor_command(state_path(folder, deployment.name).absolute()),
            env={**env, MARKER: marker_of(folder, deployment.name)},
            log=log.absolute(),
            cwd=cwd,
            memory_bytes=deployment.options.memory_bytes,
        )
    )
