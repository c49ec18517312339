"""Check what a record would start: its file may have been edited, or come from elsewhere.

A record that bears our seal has just what was typed. Any other one names no program that this user has not
used as an engine, and no flag that has to be typed.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from launcher.deployment.options import SupervisorOptions
from launcher.deployment.record import Deployment
from launcher.deployment.seal import is_sealed
from launcher.engine.capabilities import was_asked
from launcher.engine.find import SERVER, read_engines
from launcher.engine.flags.argv import check_flags
from launcher.engine.flags.from_file import check_flags_from_file
from launcher.engine.flags.taskset import split_taskset
from launcher.engine.flags.user_flags import split_flags
from launcher.errors import UsageError
from launcher.system.settings import Settings


def check_record(folder: Path, record: Deployment, settings: Callable[[], Settings]) -> Deployment:
    """Return the record as it may be started. Raises UsageError."""
    if is_sealed(folder, record):
        return record
    here = settings()
    _check_program(record, here)
    _check_flags(record)
    # It says neither where files are written, nor which variables a server gets, nor how it is watched.
    claims, history = str(here.claims_dir.absolute()), str(here.history_file.absolute())
    usual = SupervisorOptions()
    options = replace(
        record.options,
        claim_folder=claims,
        history=history,
        env={},
        passed=(),
        idle_s=usual.idle_s,
        busy_s=usual.busy_s,
        grace_s=usual.grace_s,
        check_s=usual.check_s,
    )
    return replace(record, options=options)


def _check_program(record: Deployment, settings: Settings) -> None:
    program = Path(split_taskset(record.argv)[1][0])
    usual = {engine.path for engine in read_engines(settings.engines_dir)} | {settings.engine}
    if program.is_absolute() and (program in usual or was_asked(program, settings.cache_dir)):
        return
    if (on_path := shutil.which(SERVER)) is not None and program == Path(on_path):
        return
    raise UsageError(
        f"the record of {record.name} names the program {_shown(str(program))}, "
        "which is no llama-server that you have used here",
        hint=f"{_anew(record)}, with --engine PATH for another llama-server than the usual one",
    )


def _check_flags(record: Deployment) -> None:
    own = {"-m": record.model_path, "--host": record.host, "--port": str(record.port)}
    own |= {} if record.api_key_file is None else {"--api-key-file": record.api_key_file}
    _, (_, *words) = split_taskset(record.argv)
    rest = [word for name, flag in split_flags(words) if own.get(name) != " ".join(flag[1:]) for word in flag]
    try:
        check_flags_from_file(rest, f"the record of {record.name}")
        check_flags(rest, None, planned=tuple(_names(rest)))
    except UsageError as error:
        error.hint = f"{_anew(record)} -- FLAGS, with the flags that you want"
        raise


def _names(words: list[str]) -> Iterator[str]:
    for _, (flag, *_rest) in split_flags(words):
        yield flag


def _anew(record: Deployment) -> str:
    model = shlex.quote(_shown(record.model_path))
    return f"launcher stop {record.name}; then launcher up {model} --name {record.name}"


def _shown(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
