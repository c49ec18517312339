"""Write a plan as command lines of vLLM, one for each machine."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.plan.vllm.plan import VllmPlan

MASTER_PORT = 29501  # torch's store on the head, which ranks on other machines meet at


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmServing:
    """Where a server is to be found. Its key is in VLLM_API_KEY: a command line is for all to see."""

    model_id: str
    host: str = "127.0.0.1"
    port: int = 8000
    head: str = "HEAD"  # the head's address, as other machines reach it
    program: str = "vllm"
    flags: tuple[str, ...] = ()  # passed on as they are


def vllm_argv(plan: VllmPlan, serving: VllmServing, rank: int | str = 0) -> tuple[str, ...]:
    """Return the command line of one machine's ranks; the first machine listens, the others have no API.

    `rank` may be a variable that a scheduler fills in, for every machine but the first.
    """
    words = [serving.program, "serve", plan.shape.source]
    if not plan.pool.in_ram:
        words += ["--tensor-parallel-size", str(plan.tp)]
    if plan.pp > 1:
        words += ["--pipeline-parallel-size", str(plan.pp)]
    if plan.nodes > 1:
        words += ["--nnodes", str(plan.nodes), "--node-rank", str(rank)]
        words += ["--master-addr", serving.head, "--master-port", str(MASTER_PORT)]
    if not plan.pool.in_ram:
        words += ["--gpu-memory-utilization", f"{float(plan.utilisation):.2f}"]
    words += ["--max-model-len", str(plan.ctx_size)]
    if plan.n_parallel > 1:
        words += ["--max-num-seqs", str(plan.n_parallel)]
    words += serving.flags
    if rank == 0:
        words += ["--host", serving.host, "--port", str(serving.port)]
        words += ["--served-model-name", serving.model_id]
    else:
        words += ["--headless"]
    return tuple(words)
