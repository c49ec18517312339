"""Install a build where engines are found."""

from __future__ import annotations

import time

from launcher.engine.ask import ask_engine, ask_for_help
from launcher.engine.compile.job import BuildJob
from launcher.engine.compile.recipe import OUTPUT
from launcher.engine.dialect import complete, dialect_of
from launcher.engine.find import SERVER, SOURCE_TREE, BuildRecord, Engine, Origin
from launcher.engine.flags.help_text import parse_help, parse_version
from launcher.engine.placing import put_in_place
from launcher.errors import EngineFailed
from launcher.system.packages import sha256_of


def install_engine(job: BuildJob, *, patched: bool) -> Engine:
    """Run the new llama-server once, write engine.json, sync, and rename the folder into place."""
    made = job.tree / "build" / OUTPUT
    server = made / SERVER
    answer = ask_engine(server, "--version")
    own = job.request.source_dir
    if own is None and job.request.recipe.commit not in answer:
        raise EngineFailed(
            f"the engine that was built does not call itself {job.request.recipe.commit}: {answer.strip()}",
            hint=f"cat {job.log}",
        )
    options = complete(parse_help(ask_for_help(server))) if own is not None else ()
    record = BuildRecord(
        key=job.key,
        version=job.request.recipe.version,
        commit=job.request.recipe.commit if own is None else _commit_in(answer, job.request.recipe.commit),
        backend=job.request.backend,
        arguments=job.arguments,
        compiler=job.tools.compiler,
        toolkit=job.tools.toolkit,
        arch=job.cpu.arch,
        isa=job.cpu.flags,
        patched=patched,
        built_at=int(time.time()),
        sha256=sha256_of(server),
        dialect=dialect_of(options),
        # another llama.cpp than the one this launcher was made for
        origin=job.request.origin
        if own is None
        else Origin(kind=SOURCE_TREE, made_by="this machine", file=str(own), sha256=job.source),
    )
    return put_in_place(made, record, job.engine)


def _commit_in(answer: str, of_tree: str) -> str:
    version = parse_version(answer)
    return (version.commit if version else None) or of_tree
