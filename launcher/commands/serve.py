"""`up` in the foreground: stays until the server ends, ends it when it is interrupted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from launcher.commands.engine import Confirm
from launcher.commands.start import UpRequest
from launcher.commands.up import up
from launcher.deployment.deploy import attend
from launcher.deployment.record import Deployment
from launcher.deployment.takedown import take_down
from launcher.errors import NotFound, UsageError
from launcher.progress import OnProgress
from launcher.system.settings import read_settings


def serve(
    request: UpRequest, confirm: Confirm, on_progress: OnProgress, announce: Callable[[Deployment], None]
) -> None:
    """`up` in the foreground: `announce` it, stay until it ends, end it on Ctrl-C and SIGTERM.

    Raises KeyboardInterrupt after those, EngineFailed with the cause when it ends by itself.
    """
    folder = read_settings().deployments_dir
    deployment: Deployment | None = None
    try:
        deployment = _ours(up(request, confirm, on_progress, keep_up=False))
        announce(deployment)
        attend(folder, deployment)
    except BaseException:
        if deployment is not None:
            with contextlib.suppress(NotFound):  # `attend` ends what it leaves; an announcement does not
                take_down(folder, deployment.name)
        raise


def _ours(found: Deployment) -> Deployment:
    """A deployment that this process started: the foreground does not end what was up before."""
    if found.starter is not None and found.starter.pid == os.getpid():
        return found
    raise UsageError(
        f"{found.name} runs already, in the background (pid {found.pid})", hint=f"launcher stop {found.name}"
    )
