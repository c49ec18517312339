"""Options of the commands that start a server, and of those that ask it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.options.complete import complete_mode


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Options of every command that starts a server: where and how it runs."""

    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the deployment [default: the model's].", show_default=False),
    ] = None
    host: Annotated[
        str, typer.Option("--host", help="Address to bind; --api-key-file if it is not loopback.")
    ] = "127.0.0.1"
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Port [default: a free one].", show_default=False),
    ] = None
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", help="File with API keys, one a line.", show_default=False),
    ] = None
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode",
            help="Sampling mode of the profile (thinking, instant).",
            show_default=False,
            autocompletion=complete_mode,
        ),
    ] = None
    env: Annotated[
        list[str] | None,
        typer.Option(
            "-e",
            "--env",
            metavar="K=V",
            help="Variable for llama-server; may be repeated.",
            show_default=False,
        ),
    ] = None
    no_retry: Annotated[
        bool,
        typer.Option("--no-retry", help="Try nothing twice: not with less memory, not after a crash."),
    ] = False
    canary: Annotated[
        bool,
        typer.Option("--canary", help="Ready only after a prompt as long as the context."),
    ] = False
    cpu: Annotated[
        bool,
        typer.Option("--cpu", help="Use the processor alone, as --gpus none does."),
    ] = False
    yes: Annotated[
        bool,
        typer.Option(
            "-y",
            "--yes",
            help="Do not ask before a large download or a build (without a terminal: only said).",
        ),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AskOptions:
    """What is asked of a model, and how it is to answer."""

    system: Annotated[
        str | None, typer.Option("--system", help="What the model is to be.", show_default=False)
    ] = None
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, help="Sampling temperature.", show_default=False)
    ] = None
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens", min=1, help="Tokens of an answer [default: half the context].", show_default=False
        ),
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed of the sampling.", show_default=False)
    ] = None
    json_schema: Annotated[
        str | None,
        typer.Option(
            "--json-schema", metavar="FILE|JSON", help="Answer in JSON of this schema.", show_default=False
        ),
    ] = None
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", metavar="FILE", help="An image to ask about; repeat it.", show_default=False),
    ] = None
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", metavar="FILE", help="Text after the question.", show_default=False),
    ] = None
