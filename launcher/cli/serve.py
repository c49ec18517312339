"""The command `serve`."""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions
from launcher.cli.show.output import Output
from launcher.units import one_line, parse_size

if TYPE_CHECKING:
    from launcher.gateway.config import GatewayConfig
    from launcher.gateway.gateway import Serving


def serve(
    engine_options: EngineOptions,
    out: Output,
    refs: Annotated[
        list[str] | None,
        typer.Argument(metavar="REF", help="Load these at once, and keep them.", show_default=False),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Serve no other models than these.")] = False,
    host: Annotated[
        str | None,
        typer.Option("--host", help="Address [default: 127.0.0.1]; others need keys.", show_default=False),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Port [default: 8080].", show_default=False),
    ] = None,
    max_ram: Annotated[
        int | None,
        typer.Option(
            "--max-ram", parser=parse_size, metavar="SIZE", help="RAM for all models.", show_default=False
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", help="Certificate, in PEM.", show_default=False)
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key.", show_default=False)] = None,
) -> None:
    """Serve every model here at one address, loaded when asked for, swapped by memory."""
    gc.disable()  # nothing of what is imported is garbage, and looking for some took a tenth of a start
    from launcher.errors import UsageError
    from launcher.gateway.gateway import GatewayRequest
    from launcher.gateway.gateway import serve as serve_models

    gc.freeze()  # nor is it looked through again while streams wait
    gc.enable()

    if only and not refs:
        raise UsageError("--only names no model", hint="launcher serve REF --only")
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert and --tls-key go together", hint="give both, or none")
    request = GatewayRequest(
        config=_config(host, port, max_ram),
        refs=tuple(refs or ()),
        only=only,
        engine=engine_options.engine,
        tls=None if tls_cert is None or tls_key is None else (tls_cert, tls_key),
    )
    with here_with_progress(out, offline=True) as here:
        serve_models(here, request, partial(_announce, out))


def _config(host: str | None, port: int | None, max_ram_bytes: int | None) -> GatewayConfig:
    """Return the config file's gateway, with what was typed instead."""
    from launcher.gateway.config import read_gateway_config
    from launcher.system.settings import read_settings

    config = read_gateway_config(read_settings())
    return replace(
        config,
        host=host or config.host,
        port=port or config.port,
        max_ram_bytes=config.max_ram_bytes if max_ram_bytes is None else max_ram_bytes,
    )


def _announce(out: Output, serving: Serving) -> None:
    document = {"url": serving.url, "openai_url": serving.openai_url, "models": serving.models}
    out.show_lines(document, _lines(serving))
    sys.stdout.flush()  # the command goes on, and a pipe's reader waits for this


def _lines(serving: Serving) -> tuple[str, str]:
    # a file's name may hold anything
    names = " ".join(one_line(name) for name in serving.models)
    return f"url    {serving.openai_url}", f"models {names or '-'}"
