"""Try an engine before it is used: it plans, simulates, answers, and takes the flags of what runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from launcher.commands.here import Here
from launcher.commands.plan import plan
from launcher.commands.planned import Planned, PlanRequest, files_to_bring, fitting
from launcher.commands.pull import fetch_all
from launcher.commands.short_server import short_server
from launcher.deployment.record import Deployment
from launcher.deployment.records import read_all
from launcher.engine.capabilities import read_capabilities
from launcher.engine.client import generate_token
from launcher.engine.find import Engine
from launcher.engine.flags.help_text import Capabilities
from launcher.errors import DoesNotFit, EngineFailed, UsageError
from launcher.progress import remark

DEFAULT_MODEL = "smollm2-135m"
_LOAD_S = 120.0


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
    began = time.monotonic()

    def argv_for(port: int) -> tuple[str, ...]:
        address = ("--host", "127.0.0.1", "--port", str(port))
        return (str(engine.path), "-m", str(model), *address, "-c", "512", "-np", "1")

    with short_server(argv_for, os.environ, _LOAD_S) as url:
        generate_token(url)
    return time.monotonic() - began


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
                    hint="launcher engine list",
                )
    return f"; it takes the flags of {n_checked} deployments" if n_checked else ""
