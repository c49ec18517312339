"""Single arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.options.complete import complete_deployment, complete_ref

_REF_HELP = "Profile, user/repo:QUANT, model-page URL, .gguf URL, or path."

Ref = Annotated[
    str, typer.Argument(metavar="REF", help=_REF_HELP, show_default=False, autocompletion=complete_ref)
]
OptionalRef = Annotated[
    str | None,
    typer.Argument(metavar="REF", help=_REF_HELP, show_default=False, autocompletion=complete_ref),
]
Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="The deployment; not needed when there is one.",
        show_default=False,
        autocompletion=complete_deployment,
    ),
]
NodeName = Annotated[str, typer.Argument(metavar="NAME", help="The machine, as cluster ls has it.")]
Offline = Annotated[bool, typer.Option("--offline", help="Use what is here; ask no server (HF_HUB_OFFLINE).")]
NoVision = Annotated[
    bool, typer.Option("--no-vision", help="Leave the projector out of a model that reads images.")
]
# for commands that do not plan; PlanOptions has its own
Quant = Annotated[str | None, typer.Option("--quant", help="This quant.", show_default=False)]
System = Annotated[bool, typer.Option("--system", help="A unit of the system, not of this user.")]
