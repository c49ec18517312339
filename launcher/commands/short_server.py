"""Run a llama-server for as long as a block lasts: for trials and measurements."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO

from launcher.deployment.ports import free_port
from launcher.deployment.supervisor.protect import before_exec
from launcher.engine.ask import describe_status
from launcher.engine.client import is_loaded
from launcher.engine.environment import engine_env
from launcher.errors import EngineFailed
from launcher.units import printable

_TICK_S = 0.1


@contextmanager
def short_server(
    argv_for: Callable[[int], Sequence[str]],
    environment: Mapping[str, str],
    load_s: float,
    *,
    end_after_s: float | None = None,
) -> Iterator[str]:
    """Yield the URL of a server on a free port of loopback, once its model is loaded; end it afterwards.

    It ends with us, however we end, and after `end_after_s`. Raises EngineFailed with its last words.
    """
    port = free_port("127.0.0.1")
    env, _ = engine_env(environment)
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            list(argv_for(port)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            start_new_session=True,
            preexec_fn=before_exec(None),  # noqa: PLW1509 (it only sets flags; the engine ends with us)
        )
        alarm = threading.Timer(end_after_s or load_s, _kill, [process])
        try:
            if end_after_s is not None:
                alarm.start()
            _wait_until_loaded(process, url, load_s)
            yield url
        except EngineFailed as error:
            if end_after_s is not None and alarm.finished.is_set():
                raise EngineFailed(f"it took longer than {end_after_s:.0f} s") from error
            raise EngineFailed(f"{error.message}{_last_words(log)}", hint=error.hint) from error
        finally:
            alarm.cancel()
            _kill(process)
            process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:  # not waited for yet: the number is still its own
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _wait_until_loaded(process: subprocess.Popen[bytes], url: str, load_s: float) -> None:
    end = time.monotonic() + load_s
    while time.monotonic() < end:
        status = process.poll()
        if status is not None:
            raise EngineFailed(
                f"it ended with {describe_status(status)} while it loaded the model",
                hint="launcher engine list",
            )
        if is_loaded(url):
            return
        time.sleep(_TICK_S)
    raise EngineFailed(f"it had not loaded the model after {load_s:.0f} s", hint="launcher engine list")


def _last_words(log: IO[bytes]) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - 2000))
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    words = printable(lines[-1][:200]) if lines else ""
    return f": {words}" if words else ""
