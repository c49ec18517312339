"""The command `connect`."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.show.output import Output


class ClientName(StrEnum):
    OPEN_WEBUI = "open-webui"
    CLAUDE_CODE = "claude-code"
    OPENCODE = "opencode"
    CODEX = "codex"
    CONTINUE = "continue"
    ZED = "zed"
    AIDER = "aider"
    VSCODE = "vscode"
    LIBRECHAT = "librechat"
    LITELLM = "litellm"
    CURL = "curl"


def connect(
    name: Annotated[ClientName, typer.Argument(metavar="CLIENT", help="The program.")],
    out: Output,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Write the settings, keeping a backup.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Ask one question the way the program would.")] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="The model to use first.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="The program's settings file.", show_default=False)
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="The gateway's address.", show_default=False)
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", envvar="LAUNCHER_API_KEY", help="Key of the gateway.", show_default=False),
    ] = None,
) -> None:
    """Point a program at `launcher serve`: print its settings, or write them with -y."""
    from launcher.gateway.config import read_gateway_config
    from launcher.gateway.connect import ask, clients, edit, write
    from launcher.gateway.connect.file_contexts import with_file_contexts
    from launcher.gateway.running_address import gateway_url
    from launcher.system.settings import read_settings

    client = clients.CLIENTS[name]
    settings = read_settings()
    config = read_gateway_config(settings)
    url = url or gateway_url(settings, config)
    at = write.find_endpoint(url.rstrip("/").removesuffix("/v1"), key, model)
    if not at.answers:
        out.say(f"note: no gateway answers at {at.url} yet; this starts it: launcher serve")
    if test:
        asked = ask.ask(client, at)
        words = f"{at.first} at {asked.path} after {asked.first_s:.1f} s: {asked.answer}"
        out.show_lines({"client": client.name, "model": at.first, **asdict(asked)}, (words,))
        return
    if client.form is clients.Form.SHELL:
        line = clients.curl_line(at)
        out.show_lines({"client": client.name, "command": line}, (line,))
        return
    with here_with_progress(out, offline=True) as here:
        at = with_file_contexts(here, config, at)
    if not yes:
        text = edit.snippet(client, at)
        place = str(file or (f"~/{client.file}" if client.file else f"{client.title}'s settings"))
        out.show_lines({"client": client.name, "file": place, "settings": text}, text.splitlines())
        out.say(f"note: this is for {place} (-y writes it, and keeps what else is there); {client.note}")
        return
    written = write.write_settings(client, at, write.settings_file(client, file))
    kept = f" (as it was: {written.backup})" if written.backup else ""
    words = f"{written.file} {'written' if written.changed else 'says so already'}{kept}"
    out.show_lines({"client": client.name, **asdict(written)}, (words,))
    out.say(f"note: {client.note}")
