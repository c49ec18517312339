"""Install a build where engines are found."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path

from launcher.engine.compile.job import BuildJob
from launcher.engine.compile.recipe import OUTPUT
from launcher.engine.find import RECORD, RECORD_FORMAT, SERVER, BuildRecord, Engine, ask_engine, read_engine
from launcher.errors import EngineFailed
from launcher.system.packages import sha256_of


def install_engine(job: BuildJob, *, patched: bool) -> Engine:
    """Run the new llama-server once, write engine.json, sync, and rename the folder into place."""
    made = job.tree / "build" / OUTPUT
    server = made / SERVER
    answer = ask_engine(server, "--version")
    if job.request.recipe.commit not in answer:
        raise EngineFailed(
            f"the engine that was built does not call itself {job.request.recipe.commit}: {answer.strip()}",
            hint=f"see {job.log}",
        )
    record = BuildRecord(
        key=job.key,
        version=job.request.recipe.version,
        commit=job.request.recipe.commit,
        backend=job.request.backend,
        arguments=job.arguments,
        compiler=job.tools.compiler,
        toolkit=job.tools.toolkit,
        arch=job.cpu.arch,
        isa=job.cpu.flags,
        patched=patched,
        built_at=int(time.time()),
        sha256=sha256_of(server),
    )
    text = json.dumps({"format": RECORD_FORMAT, **dataclasses.asdict(record)}, indent=2)
    (made / RECORD).write_text(text + "\n")
    # After a power cut a renamed folder must not hold empty files.
    for path in made.iterdir():
        _sync(path)
    _sync(made)
    shutil.rmtree(job.engine, ignore_errors=True)  # a folder without a readable record
    made.rename(job.engine)
    _sync(job.engine.parent)
    shutil.rmtree(job.tree, ignore_errors=True)
    engine = read_engine(job.engine)
    if engine is None:
        raise EngineFailed(f"{job.engine} is gone since it was built", hint="launcher engine build")
    return engine


def _sync(path: Path) -> None:
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
