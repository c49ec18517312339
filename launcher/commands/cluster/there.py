"""Start a model whole on another machine: its launcher runs it, and a tunnel of ours leads to it."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from launcher.commands.here import Here
from launcher.commands.up.request import Named, UpRequest
from launcher.deployment.cluster.nodes import Node
from launcher.deployment.cluster.ssh import ask_launcher, ssh_argv
from launcher.deployment.deploy import Request, bring_up
from launcher.deployment.options import SupervisorOptions
from launcher.deployment.record import Deployment, parse_deployment
from launcher.engine.environment import engine_env
from launcher.errors import LauncherError, NotFound, UsageError

_CHECK_S = 5.0  # between two looks at a server behind a tunnel
_LOAD_S = 6 * 3600.0  # for a model to be pulled and loaded there
_AGENT = "SSH_AUTH_SOCK"  # ssh's keys may be with an agent


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRequest:
    """A request for the cluster, and the words that `up` on another machine is given for it."""

    request: UpRequest
    words: tuple[str, ...]  # options of the plan
    flags: tuple[str, ...] = ()  # llama-server's


def up_there(here: Here, cluster_request: ClusterRequest, named: Named, node: Node) -> Deployment:
    """Have the launcher there start the model, and keep a tunnel to it. Raises what `ask_launcher` does."""
    words = ("up", cluster_request.request.plan.ref, *cluster_request.words, "--name", named.name)
    try:
        answer = ask_launcher(node.remote, words, cluster_request.flags, limit_s=_LOAD_S)
        try:
            there = parse_deployment(json.dumps(answer))
        except ValueError as error:
            raise UsageError(
                f"what {node.name} says of {named.name} cannot be read: {error}",
                hint=f"launcher --version, here and on {node.name}",
            ) from error
        return _lead_to(here, cluster_request.request, named, node, there)
    except BaseException:
        with contextlib.suppress(LauncherError):
            ask_launcher(node.remote, ("stop", named.name))
        raise


def _lead_to(here: Here, request: UpRequest, named: Named, node: Node, there: Deployment) -> Deployment:
    ssh = shutil.which("ssh")
    if ssh is None:
        raise NotFound("there is no ssh on this machine", hint="sudo apt install openssh-client")

    def argv_for(port: int) -> tuple[str, ...]:
        forward = f"127.0.0.1:{port}:127.0.0.1:{there.port}"
        return (ssh, *ssh_argv(node.remote, (), [forward])[1:])

    env, agent = ssh_env(here)
    return bring_up(
        here.settings.deployments_dir,
        Request(
            name=named.name,
            model_id=there.model_id,
            model_path=Path(there.model_path),
            model_bytes=there.model_bytes,
            stored_plan=there.stored_plan,
            plan_hash=named.request_hash,
            argv_for=argv_for,
            env=env,
            port=request.port,
            engine_path=Path(ssh),
            options=SupervisorOptions(
                keep_up=True, node=node.name, replica_of=request.replica_of, env=agent, check_s=_CHECK_S
            ),
        ),
        on_progress=here.on_progress,
    )


def ssh_env(here: Here) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environment of a supervisor whose ssh may need an agent, and what the record keeps of it."""
    agent = {_AGENT: here.env[_AGENT]} if _AGENT in here.env else {}
    return engine_env(here.env, agent)[0], agent
