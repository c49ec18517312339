"""Take up the record of a deployment that was started, or whose supervisor was killed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from launcher.deployment.check_record import check_record
from launcher.deployment.identity import Presence, find_presence
from launcher.deployment.record import Deployment, Phase
from launcher.deployment.records import find_record, save_record
from launcher.deployment.supervisor import protect
from launcher.deployment.supervisor.lifecycle import State
from launcher.deployment.supervisor.supervisor import OpenVramMeter, Supervisor
from launcher.engine import environment
from launcher.engine.log.cause import Cause, CauseKind
from launcher.errors import EngineFailed, TryAgain, UsageError
from launcher.system.settings import read_settings

_RESUMABLE = frozenset({Phase.STARTING, Phase.READY, Phase.DEGRADED, Phase.BACKOFF})


def supervise(state_file: Path, open_vram_meter: OpenVramMeter | None = None) -> int:
    """Supervise the deployment of this state file until it has ended; return the exit status.

    EngineFailed's if it was given up, TryAgain's if its record could not be written. Zero if there is nothing
    to supervise (stopped, failed, supervised already): systemd must not try again.
    """
    protect.keep_to_ourselves()
    deployment = find_record(state_file.parent, state_file.stem)
    if not isinstance(deployment, Deployment) or deployment.phase not in _RESUMABLE:
        return 0
    other = deployment.supervisor
    if other is not None and find_presence(other) is not Presence.GONE:
        return 0
    if other is not None:  # what was written since we were started first may be anything
        try:
            deployment = check_record(state_file.parent, deployment, read_settings)
        except UsageError as error:
            cause = Cause(kind=CauseKind.OTHER, sentence=error.message, remedy=error.hint)
            save_record(state_file.parent, replace(deployment, phase=Phase.FAILED, failure=cause))
            return EngineFailed.exit_code
    if deployment.options.epoch is not None:  # a rank is its head's to start again, under a new epoch
        return 0
    options = deployment.options
    _, dropped = environment.engine_env(
        {name: value for name, value in os.environ.items() if name not in options.passed}
    )
    for name in dropped:
        del os.environ[name]
    supervisor = Supervisor(state_file.parent, deployment, options, open_vram_meter)
    state = supervisor.run()
    if supervisor.is_mute:
        return TryAgain.exit_code
    return EngineFailed.exit_code if state is State.FAILED else 0
