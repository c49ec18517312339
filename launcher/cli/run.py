"""The command `run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, PlanOptions
from launcher.cli.options.configured import is_typed
from launcher.cli.options.serving import AskOptions, ServeOptions
from launcher.cli.options.single import Ref
from launcher.cli.show.output import Output
from launcher.errors import UsageError


def run(
    ctx: typer.Context,
    ref: Ref,
    plan_options: PlanOptions,
    serve_options: ServeOptions,
    engine_options: EngineOptions,
    ask_options: AskOptions,
    out: Output,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="One question; without it a chat.", show_default=False),
    ] = None,
) -> None:
    """Ask one question, or chat; starts the model if it is not up. What is piped in follows the question."""
    from launcher.cli.chat.chat import answer_once, converse
    from launcher.cli.chat.requests import read_asked
    from launcher.cli.requests import up_request
    from launcher.commands.restart import running
    from launcher.commands.up.up import up as bring_model_up
    from launcher.deployment.status import find_server_trouble

    question = _question(prompt, ref, ask_options.file, out)
    asked, images = read_asked(ask_options), ask_options.image or []
    request = up_request(ref, plan_options, serve_options, engine_options, ctx.obj)
    offline, yes = plan_options.offline, serve_options.yes
    # a REF alone may be the name of a deployment that runs; options would ask for a server of their own
    is_ref_alone = (
        not is_typed(ctx, PlanOptions)
        and not is_typed(ctx, ServeOptions, but="yes")
        and not is_typed(ctx, EngineOptions)
        and ctx.obj == ()
    )
    with here_with_progress(out, offline=offline, yes=yes, env=request.env) as here:
        deployment = (running(ref) if is_ref_alone else None) or bring_model_up(here, request)
    if (trouble := find_server_trouble(deployment)) is not None:
        out.say(f"note: {trouble.detail}")
    if question is None:
        converse(deployment, asked, images, out, here.settings)
    else:
        answer_once(deployment, question, asked, images, out)


def _question(prompt: str | None, ref: str, file: Path | None, out: Output) -> str | None:
    """Return the prompt with the file and what is piped in; None for a chat.

    Raises UsageError for a chat under --json, and for an empty pipe without a prompt.
    """
    from launcher.cli.chat.piped import clean_argument, piped_text, read_question, read_stdin

    parts = [] if prompt is None else [clean_argument(prompt)]
    if file is not None:
        parts.append(read_question(file))
    if parts:
        return "\n\n".join(filter(None, [*parts, piped_text()]))
    if out.as_json:
        raise UsageError("a chat is not one JSON document", hint=f'launcher run {ref} "…" --json')
    if sys.stdin.isatty():
        return None
    text = read_stdin()
    if not text:
        raise UsageError("nothing was asked: stdin is empty", hint=f'launcher run {ref} "…"')
    return text
