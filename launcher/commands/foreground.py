"""`up` in the foreground: stay until the server ends, end it when interrupted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace

from launcher.commands.here import Here
from launcher.commands.up.request import UpRequest
from launcher.commands.up.up import up
from launcher.deployment.deploy import attend
from launcher.deployment.record import Deployment
from launcher.deployment.takedown import take_down
from launcher.errors import NotFound, UsageError


def stay_up(here: Here, request: UpRequest, announce: Callable[[Deployment], None]) -> None:
    """Bring a model up, `announce` it, stay until it ends; end it on Ctrl-C and SIGTERM.

    Raises KeyboardInterrupt after those, EngineFailed with the cause when it ends by itself.
    """
    folder = here.settings.deployments_dir
    deployment: Deployment | None = None
    try:
        deployment = _ours(up(here, replace(request, keep_up=False)))
        announce(deployment)
        attend(folder, deployment)
    except BaseException:
        if deployment is not None:
            with contextlib.suppress(NotFound):  # `attend` ends what it leaves; an announcement does not
                take_down(folder, deployment.name)
        raise


def _ours(deployment: Deployment) -> Deployment:
    if deployment.starter is not None and deployment.starter.pid == os.getpid():
        return deployment
    # it ran before: the foreground does not end what it did not start
    raise UsageError(
        f"{deployment.name} runs already, in the background (pid {deployment.pid})",
        hint=f"launcher stop {deployment.name}",
    )
