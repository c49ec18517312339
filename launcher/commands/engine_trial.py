"""Try an engine before it is used: it plans, simulates, answers, and takes the flags of what runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO

from launcher.commands.here import Here
from launcher.commands.plan import plan
from launcher.commands.planned import Planned, PlanRequest, files_to_bring, fitting
from launcher.commands.pull import fetch_all
from launcher.deployment.ports import free_port
from launcher.deployment.record import Deployment
from launcher.deployment.records import read_all
from launcher.deployment.supervisor.protect import before_exec
from launcher.engine.ask import describe_status
from launcher.engine.capabilities import read_capabilities
from launcher.engine.client import generate_token, is_loaded
from launcher.engine.environment import engine_env
from launcher.engine.find import Engine
from launcher.engine.flags.help_text import Capabilities
from launcher.errors import DoesNotFit, EngineFailed, UsageError
from launcher.progress import remark
from launcher.units import printable

DEFAULT_MODEL = "smollm2-135m"
_LOAD_S = 120.0
_TICK_S = 0.1


def try_engine(here: Here, engine: Engine) -> tuple[str, ...]:
    """Try it with the default model; return what it did. Raises EngineFailed for what it does not do."""
    known = read_capabilities(engine, here.settings.cache_dir)
    flags = _check_deployments(here, known)
    here.on_progress(remark("update", f"trying {engine.folder.name} with {DEFAULT_MODEL}"))
    try:
        planned = plan(here, PlanRequest(ref=DEFAULT_MODEL, engine=engine.path))
        chosen, _ = fitting(planned)
        path = _model_path(here, planned)
    except (UsageError, DoesNotFit) as error:
        raise EngineFailed(
            f"{DEFAULT_MODEL} could not be planned: {error.message}", hint=error.hint
        ) from error
    answer_s = answers(engine, path)
    simulated = (
        f"it was simulated by {chosen.simulated_by}"
        if chosen.simulated_by is not None
        else "the simulator does not know it: plans are estimates"
    )
    return (f"{DEFAULT_MODEL} answered after {answer_s:.1f} s; {simulated}{flags}",)


def answers(engine: Engine, model: Path) -> float:
    """Start the engine with a model and have it generate a token; return the seconds it took.

    Raises EngineFailed with its last words.
    """
    port = free_port("127.0.0.1")
    argv = [
        str(engine.path),
        "-m",
        str(model),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "-c",
        "512",
        "-np",
        "1",
    ]
    env, _ = engine_env(os.environ)
    began = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            start_new_session=True,
            preexec_fn=before_exec(None),  # noqa: PLW1509 (it only sets flags; the engine ends with us)
        )
        try:
            _wait_until_loaded(process, f"http://127.0.0.1:{port}")
            generate_token(f"http://127.0.0.1:{port}")
        except EngineFailed as error:
            raise EngineFailed(f"{error.message}{_last_words(log)}", hint=error.hint) from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return time.monotonic() - began


def _wait_until_loaded(process: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + _LOAD_S
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
    raise EngineFailed(f"it had not loaded the model after {_LOAD_S:.0f} s", hint="launcher engine list")


def _last_words(log: IO[bytes]) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - 2000))
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    words = printable(lines[-1][:200]) if lines else ""
    return f": {words}" if words else ""


def _model_path(here: Here, planned: Planned) -> Path:
    paths, *_ = fetch_all(here, files_to_bring(planned), ("launcher", "pull", DEFAULT_MODEL))
    return paths[0]


def _check_deployments(here: Here, known: Capabilities) -> str:
    """Raise EngineFailed if a deployment that is here has a flag that this engine does not know."""
    n_checked = 0
    for entry in read_all(here.settings.deployments_dir):
        if not isinstance(entry, Deployment):
            continue
        n_checked += 1
        for word in entry.argv[1:]:
            if word.startswith("-") and not word[1:2].isdigit() and word[1:] and not known.has(word):
                raise EngineFailed(
                    f"it does not know {word}, with which {entry.name} runs",
                    hint=f"launcher engine list; {entry.name} keeps its engine",
                )
    return f"; it takes the flags of {n_checked} deployments" if n_checked else ""
