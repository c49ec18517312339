"""The group `cluster`: machines that models run on, reached by ssh, or known by Ray."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.single import NodeName
from launcher.cli.show.output import Output

RayPort = Annotated[int, typer.Option("--port", min=1, max=65535, help="The port of the head.")]
Public = Annotated[bool, typer.Option("--public", help="Run Ray on a machine that has a public address.")]


def add(
    target: Annotated[str, typer.Argument(metavar="USER@HOST", help="As ssh takes it.")],
    out: Output,
    name: Annotated[
        str | None, typer.Option("--name", help="Its name here [default: HOST].", show_default=False)
    ] = None,
    program: Annotated[
        str, typer.Option("--launcher", metavar="COMMAND", help="How launcher is run there.")
    ] = "launcher",
    zone: Annotated[
        str, typer.Option("--zone", help="Machines of one zone fail together.", show_default=False)
    ] = "",
    ssh_config: Annotated[
        Path | None,
        typer.Option("--ssh-config", metavar="FILE", help="ssh's config file for it.", show_default=False),
    ] = None,
) -> None:
    """Take a machine into the cluster: ssh leads to it, and launcher is installed there."""
    from launcher.cli.show.cluster import node_json, render_nodes
    from launcher.commands.cluster.membership import add_node
    from launcher.deployment.cluster.remote import Remote
    from launcher.errors import UsageError

    try:
        words = tuple(shlex.split(program))
    except ValueError as error:
        raise UsageError(f"--launcher {program!r}: {error}", hint="--launcher launcher") from error
    if not words:
        raise UsageError("--launcher is empty", hint="--launcher launcher")
    config = None if ssh_config is None else str(ssh_config.absolute())
    with here_with_progress(out) as here:
        seen = add_node(here, Remote(target=target, program=words, config=config), name, zone)
    out.show(node_json(seen), render_nodes([seen]))


def start(
    out: Output,
    bind: Annotated[
        str | None,
        typer.Option(
            "--bind", metavar="ADDRESS", help="This machine's address for the others.", show_default=False
        ),
    ] = None,
    port: RayPort = 6379,
    public: Public = False,
) -> None:
    """Start a cluster by Ray on this machine, and print how others join it."""
    from launcher.commands.cluster.by_ray import start_cluster

    with here_with_progress(out) as here:
        begun = start_cluster(here, bind, port, is_public=public)
    line = f"launcher cluster join {begun.place.head} --port {begun.place.port} --token-file ray.token"
    out.show_lines(
        {
            "address": begun.place.address,
            "port": begun.place.port,
            "token_file": begun.token_file,
            "join": line,
        },
        (f"the token is in {begun.token_file}: copy it to the others, then, there:", line),
    )


def join(
    host: Annotated[str, typer.Argument(metavar="HOST", help="Where the cluster was started.")],
    out: Output,
    token_file: Annotated[
        Path, typer.Option("--token-file", metavar="FILE", help="The cluster's token, mode 0600.")
    ],
    port: RayPort = 6379,
    public: Public = False,
) -> None:
    """Take this machine into a cluster by Ray."""
    from launcher.commands.cluster.by_ray import join_cluster

    with here_with_progress(out) as here:
        joined = join_cluster(here, host, port, token_file, is_public=public)
    place = joined.place
    out.show_lines(
        {"address": place.address, "head": place.head, "port": place.port},
        (f"{place.address} is in the cluster of {place.head}:{place.port}",),
    )


def ls(out: Output) -> None:
    """List the machines, and what is free on them now."""
    from launcher.cli.show.cluster import node_json, ray_node_json, render_nodes
    from launcher.commands.cluster.by_ray import look_by_ray
    from launcher.commands.cluster.membership import look_at_all

    with here_with_progress(out) as here:
        seen = look_at_all(here)
        by_ray = look_by_ray(here)
    document = [*map(node_json, seen), *map(ray_node_json, by_ray)]
    out.show(document, render_nodes(seen, by_ray))


def drain(
    name: NodeName,
    out: Output,
    undo: Annotated[bool, typer.Option("--undo", help="Place models there again.")] = False,
) -> None:
    """Place nothing new on a machine. What runs there goes on."""
    from launcher.commands.cluster.membership import drain_node

    with here_with_progress(out) as here:
        there = drain_node(here, name, undo=undo)
    words = "takes models again" if undo else "gets no new ones"
    runs = f"; there: {', '.join(there)} (launcher stop {' '.join(there)})" if there else ""
    out.show_lines({"name": name, "draining": not undo, "deployments": there}, (f"{name} {words}{runs}",))


def leave(
    out: Output,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A machine by ssh [default: this one's Ray].")
    ] = None,
) -> None:
    """Forget a machine by ssh, where nothing is changed; without NAME, end this machine's own Ray."""
    from launcher.commands.cluster.by_ray import leave_ray
    from launcher.commands.cluster.membership import leave as forget

    with here_with_progress(out) as here:
        if name is None:
            left = leave_ray(here.settings)
            document, line = {"left": left.place.head}, f"this machine has left {left.place.head}"
        else:
            node = forget(here, name)
            document, line = {"left": node.name}, f"{node.name} is forgotten"
    out.show_lines(document, (line,))


def node(out: Output) -> None:
    """Describe this machine to a launcher elsewhere."""
    from launcher.commands.cluster.describe import describe_machine, description_json

    with here_with_progress(out) as here:
        document = description_json(describe_machine(here))
    out.show(document, str(document["machine"]))


def rank(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The rank's name.")],
    out: Output,
    epoch: Annotated[int, typer.Option("--epoch", min=1, help="The run of the gang.")],
    device: Annotated[str, typer.Option("--device", help="The device, by the engine's name here.")],
    n_bytes: Annotated[int, typer.Option("--bytes", min=0, help="What it is to take, whole bytes.")],
    socket: Annotated[str, typer.Option("--socket", help="Where it is reached, in a folder to be made.")],
    engine_sha256: Annotated[str, typer.Option("--engine-sha256", help="The head's engine.")],
) -> None:
    """Run a part of a model for a launcher elsewhere, as long as that asks for it on stdin."""
    from launcher.commands.cluster.rank import RankRequest, serve_rank
    from launcher.errors import EngineFailed

    request = RankRequest(
        name=name, epoch=epoch, device=device, n_bytes=n_bytes, socket=socket, engine_sha256=engine_sha256
    )
    with here_with_progress(out) as here:
        why = serve_rank(here, request)
    if why is not None:
        raise EngineFailed(f"{name} ended: {why}", hint=f"launcher logs {name}")
