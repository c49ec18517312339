"""Functions for scripts and notebooks: plan a model, start a server, load a model into this process.

    llm = launcher.load("smollm2-135m", ctx_size=4096)
    llm.create_chat_completion([{"role": "user", "content": "What is the capital of France?"}])

They plan as the commands of the same names do, take the same words (`Wishes`), and raise `LauncherError`s:
DoesNotFit, NotFound, TryAgain and the others of `launcher.errors`, with `message` and `hint`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from launcher.commands.here import Here, here_with
from launcher.commands.plan import plan as plan_request
from launcher.commands.planned import fitting
from launcher.commands.probe import MachineChoice
from launcher.commands.up.request import UpRequest, notes
from launcher.commands.up.up import up as bring_up
from launcher.commands.wishes import Wishes, read_request, size_of
from launcher.deployment.record import Deployment
from launcher.deployment.takedown import take_down
from launcher.errors import LauncherError
from launcher.plan.plan import Plan
from launcher.progress import OnProgress, remark, silent
from launcher.system.settings import expand_home

if TYPE_CHECKING:
    from llama_cpp import Llama

__all__ = ["Deployment", "Plan", "Wishes", "load", "plan", "stop", "up"]


# A traceback shows an error's notes and knows nothing of hints.
@contextmanager
def _with_hints() -> Iterator[None]:
    try:
        yield
    except LauncherError as error:
        if error.hint is not None:
            error.add_note(f"hint: {error.hint}")
        raise


@_with_hints()
def plan(
    ref: str,
    *,
    machine: str | None = None,
    gpu: Sequence[str] = (),
    ram: int | str | None = None,
    on_progress: OnProgress = silent,
    **wishes: Unpack[Wishes],
) -> Plan:
    """Return the plan for this machine, for a saved one, or for some GPUs (`"3090:2"`) and RAM.

    `plan.ledger` has the bytes by device, `plan.reasons` a sentence for every choice. Raises DoesNotFit where
    nothing fits; the hint is a change that would.
    """
    choice = MachineChoice(name=machine, gpus=tuple(gpu), ram_bytes=None if ram is None else size_of(ram))
    request = read_request(ref, wishes, machine=choice)
    return fitting(plan_request(_here(wishes, on_progress), request))[0]


@_with_hints()
def up(
    ref: str,
    *,
    name: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    api_key_file: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    on_progress: OnProgress = silent,
    **wishes: Unpack[Wishes],
) -> Deployment:
    """Start a server, or find the one that was started so before; return once it has answered.

    Its OpenAI-compatible address is `deployment.url + "/v1"`. It outlives this process: `stop` ends it.
    """
    request = UpRequest(
        plan=read_request(ref, wishes),
        name=name,
        host=host,
        port=port,
        api_key_file=None if api_key_file is None else expand_home(Path(api_key_file)).absolute(),
        env=tuple((env or {}).items()),
    )
    here = _here(wishes, on_progress, request.env)
    for note in notes(here, request):
        on_progress(remark("up", note))
    return bring_up(here, request)


@_with_hints()
def stop(deployment: Deployment | str) -> None:
    """End a deployment, named or as `up` returned it. Raises NotFound if there is none."""
    name = deployment if isinstance(deployment, str) else deployment.name
    take_down(here_with().settings.deployments_dir, name)


@_with_hints()
def load(
    ref: str,
    *,
    llama: Mapping[str, Any] | None = None,
    on_progress: OnProgress = silent,
    **wishes: Unpack[Wishes],
) -> Llama:
    """Plan a model for this process, bring its files here, and load it on the engine's own libraries.

    Needs the extra `gguf-launcher[python]` (llama-cpp-python). `llama` has further arguments of
    `llama_cpp.Llama` that take no memory (`chat_format`, `seed`, `verbose`, …). What a Llama cannot do is
    refused (UsageError), or said by a warning where the model works without it. `Llama.close()` frees it.
    """
    from launcher.commands.load import load as load_request  # noqa: PLC0415  the bindings are an extra

    return load_request(_here(wishes, on_progress), read_request(ref, wishes), llama or {})


def _here(wishes: Wishes, on_progress: OnProgress, env: tuple[tuple[str, str], ...] = ()) -> Here:
    return here_with(on_progress, offline=wishes.get("offline", False), env=env, confirm=_go_on)


def _go_on(_question: str) -> bool:
    return True  # nobody can be asked
