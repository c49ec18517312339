"""Install a build where engines are found."""

from __future__ import annotations

import shutil
import time

from launcher.engine.ask import ask_engine
from launcher.engine.compile.job import BuildJob
from launcher.engine.compile.recipe import OUTPUT
from launcher.engine.find import SERVER, BuildRecord, Engine
from launcher.engine.placing import put_in_place
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
    engine = put_in_place(made, record, job.engine)
    shutil.rmtree(job.tree, ignore_errors=True)
    return engine
