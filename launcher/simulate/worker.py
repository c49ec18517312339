"""One simulator process: `python -m launcher.simulate.worker`, JSON lines on stdin and stdout.

The first line is the setup: `lib_dir`, `version`, `devices`, `memory_limit_bytes`. The reply is
`{"ready": …}` or `{"unavailable": …}`. Each further line is a question, answered by `{"answer": …}`,
`{"refusal": …}` or `{"fault": …}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from launcher.plan.oracle import Answer, DraftAnswer, Fitted, ProjectorAnswer, Refusal
from launcher.simulate.wire import (
    Json,
    device_from,
    draft_question_from,
    fit_question_from,
    projector_question_from,
    question_from,
    to_json,
)

if TYPE_CHECKING:
    from launcher.simulate.run import Simulator


def run_worker() -> None:
    answers = _private_stdout()
    setup = json.loads(sys.stdin.readline())
    simulator = _set_up(setup, answers)
    if simulator is None:
        return
    for line in sys.stdin:
        _reply(answers, _answer(simulator, Path(setup["lib_dir"]), json.loads(line)))


def _private_stdout() -> IO[str]:
    """Move the pipe to the client to a new descriptor, and make descriptor 1 stderr."""
    # whatever C code prints must not end up between the answers
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return pipe


def _set_up(setup: Json, answers: IO[str]) -> Simulator | None:
    # imported once stdout is safe
    from launcher.simulate.abi.binding import Binding  # noqa: PLC0415
    from launcher.simulate.abi.layout_check import Unavailable  # noqa: PLC0415
    from launcher.simulate.devices import register_devices  # noqa: PLC0415
    from launcher.simulate.run import Simulator  # noqa: PLC0415

    try:
        binding = Binding(Path(setup["lib_dir"]), setup["version"])
    except Unavailable as error:
        _reply(answers, {"unavailable": str(error)})
        return None
    virtual = register_devices(binding, tuple(device_from(device) for device in setup["devices"]))
    simulator = Simulator(binding, virtual)
    _limit_memory(setup["memory_limit_bytes"])
    _reply(answers, {"ready": binding.engine})
    return simulator


def _limit_memory(n_bytes: int) -> None:
    """Bound what a hostile header can make llama.cpp allocate, or write to stderr."""
    # private writable memory; that of the libraries and the interpreter counts too
    limits = ((resource.RLIMIT_DATA, n_bytes), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 1 << 20))
    for limit, most in limits:
        with contextlib.suppress(ValueError, OSError):  # a lower limit is in force already
            resource.setrlimit(limit, (most, most))


def _answer(simulator: Simulator, lib_dir: Path, request: Json) -> Json:
    from launcher.simulate.abi.layout_check import Unavailable  # noqa: PLC0415

    result: Answer | DraftAnswer | ProjectorAnswer | Fitted | Refusal
    try:
        if "projector" in request:
            result = _projector(simulator, lib_dir, request["projector"])
        elif "fit" in request:
            result = _fit(simulator, lib_dir, request["fit"])
        elif "draft" in request:
            result = _draft(simulator, request["draft"])
        else:
            result = simulator.simulate(question_from(request["question"]), like_fit=request["like_fit"])
    except Unavailable as error:
        result = Refusal(reason=str(error), model_refused=False, unavailable=True)
    except Exception as error:  # noqa: BLE001 - reported to the client, which raises it
        return {"fault": f"{type(error).__name__}: {error}"}
    return {"refusal" if isinstance(result, Refusal) else "answer": to_json(result)}


def _projector(simulator: Simulator, lib_dir: Path, question: Json) -> ProjectorAnswer | Refusal:
    # libmtmd is only loaded if a projector is asked about
    from launcher.simulate.projector import ProjectorSimulator  # noqa: PLC0415

    projectors = ProjectorSimulator(lib_dir, simulator.virtual)
    return projectors.simulate(projector_question_from(question))


def _fit(simulator: Simulator, lib_dir: Path, question: Json) -> Fitted | Refusal:
    # libllama-common is only loaded if it is asked
    from launcher.simulate.fit import FitSimulator  # noqa: PLC0415

    return FitSimulator(lib_dir, simulator).fit(fit_question_from(question))


def _draft(simulator: Simulator, question: Json) -> DraftAnswer | Refusal:
    from launcher.simulate.draft import simulate_draft  # noqa: PLC0415

    return simulate_draft(simulator, draft_question_from(question))


def _reply(answers: IO[str], message: Json) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    run_worker()
