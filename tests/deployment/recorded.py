"""Records for tests, made by hand."""

from __future__ import annotations

import os
from dataclasses import replace

from launcher.deployment.identity import ProcessId, identify
from launcher.deployment.record import (
    Deployment,
    Phase,
)
from launcher.plan.from_json import stored
from tests.plan.planned import small_plan

ME = identify(os.getpid())


NOBODY = ProcessId(
    pid=os.getpid(), start_time=1.0, boot_id=ME.boot_id if ME else None, hostname=os.uname().nodename
)


ELSEWHERE = ProcessId(pid=77, start_time=1.0, boot_id="b", hostname="bigbox")


def a_deployment(name: str = "m", **changes: object) -> Deployment:
    values = Deployment(
        name=name,
        model_id="user/m:Q4_1",
        url="http://127.0.0.1:1234",
        host="127.0.0.1",
        port=1234,
        process=ME,
        starter=NOBODY,
        phase=Phase.READY,
        model_path="/models/m.gguf",
        model_bytes=10,
        argv=("llama-server", "-m", "/models/m.gguf"),
        env_dropped=("LLAMA_ARG_X",),
        stored_plan=stored(small_plan("CUDA0")),
        plan_hash="abc",
        log_path="/state/m.log",
        engine_path="/bin/llama-server",
        engine_sha256=None,
        engine_commit="0c1e570",
        api_key_file=None,
        started_at="2026-11-01T00:00:00+00:00",
    )
    return replace(values, **changes)  # type: ignore[arg-type]
