"""Check a llama-server line that serves many models: each of them, and what may be loaded together.

Only wiring. The lines of the children are `router_lines`' to write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.commands.check import (
    Bench,
    Checked,
    CheckRequest,
    check_document,
    check_line,
    open_bench,
)
from launcher.commands.check_together import LoadedTogether, RouterModel, TooLarge
from launcher.commands.here import Here
from launcher.engine.flags.command_line import Command
from launcher.engine.flags.preset_ini import Section, parse_presets
from launcher.engine.flags.preset_options import Options, options_by_key, pinned_options
from launcher.engine.flags.router_lines import (
    Child,
    Children,
    ModelFiles,
    Router,
    lines_of_children,
    read_router,
)
from launcher.engine.models_dir import list_models_dir
from launcher.errors import LauncherError, NotFound, UsageError
from launcher.plan.as_json import PLAN_SCHEMA
from launcher.plan.check.configuration import visible_devices
from launcher.plan.plan import Finding
from launcher.progress import Step
from launcher.system.settings import expand_home
from launcher.system.small_files import MAX_TEXT_BYTES, read_small_text

_CACHE_NOTE = "what llama-server's own cache has is served, too, and not counted"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRouter:
    """The verdict on a router: on each model, and on those that may be loaded together."""

    source: str
    router: Router
    models: tuple[RouterModel, ...]
    refused: tuple[str, ...]
    too_large: TooLarge | None
    most_that_fit: int | None  # --models-max with which all sets fit, where the given one is too large
    argv: tuple[str, ...]  # the line with it
    # sentences on models that --fit makes smaller, because others are there
    smaller: tuple[str, ...]
    notes: tuple[str, ...]
    engine: str

    @property
    def starts(self) -> bool:
        return not self.refused

    @property
    def finding(self) -> Finding:
        """Return the worst finding of all."""
        order = (Finding.DOES_NOT_FIT, Finding.UNVERIFIED, Finding.FITS_BY_ESTIMATE, Finding.FITS)
        if self.too_large is not None:
            return Finding.DOES_NOT_FIT
        return min((model.finding for model in self.models), key=order.index, default=Finding.FITS)


def check_any(here: Here, request: CheckRequest) -> Checked | CheckedRouter:
    """Check a line of one model, or of a router."""
    bench = open_bench(here, request)
    command = bench.read(request.words)
    options = options_by_key(bench.known.options if bench.known else pinned_options())
    router = read_router(command, options)
    if router is None:
        return check_line(here, bench, command, request)
    if request.ref is not None:
        raise UsageError(
            f"{request.ref} and a router's models are two things to check",
            hint="launcher check -- llama-server …, without a REF",
        )
    return _check_router(here, bench, command, router, options)


def _check_router(
    here: Here, bench: Bench, command: Command, router: Router, options: Options
) -> CheckedRouter:
    children, notes = _children(router, options)
    devices = visible_devices(bench.machine.devices, dict(command.variables))
    bench = replace(bench, machine=replace(bench.machine, devices=devices))
    variables = [f"{name}={value}" for name, value in command.variables if name.startswith("LLAMA_ARG_")]
    models = []
    for done, child in enumerate(children.models):
        step = Step(phase="check", done=done, total=len(children.models), unit="steps", text=child.name)
        here.on_progress(step)
        models.append(_check_child(here, bench, child, variables))
    together = LoadedTogether(here, bench, models)
    most = router.most_loaded if router.most_loaded > 0 else len(models)
    too_large = together.at_startup() or together.on_demand(most)
    fits = None if too_large is None else together.most_that_fit(most)
    cached = [
        f"{child.name} is served if llama-server's cache has that repo"
        for child in children.models
        if child.from_cache
    ]
    return CheckedRouter(
        source=router.presets or router.folder or "",
        router=router,
        models=tuple(models),
        refused=(*command.refused, *children.refused),
        too_large=too_large,
        most_that_fit=fits,
        smaller=together.smaller,
        argv=() if fits is None else _with_most(command, fits),
        notes=(*notes, *children.notes, *cached, *together.smaller, _CACHE_NOTE),
        engine=bench.engine_name,
    )


def _children(router: Router, options: Options) -> tuple[Children, tuple[str, ...]]:
    found: tuple[ModelFiles, ...] = ()
    notes: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    if router.folder:
        found, notes = list_models_dir(expand_home(Path(router.folder)))
    if router.presets:
        sections = parse_presets(_read(expand_home(Path(router.presets))), router.presets)
    children = lines_of_children(router, sections, found, options)
    if not children.models:
        raise NotFound(
            f"{router.presets or router.folder} has no model for llama-server to serve",
            hint="launcher check -- llama-server -m FILE, for a single model",
        )
    return children, notes


def _read(file: Path) -> str:
    try:
        return read_small_text(file, pipes=True)
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}", hint=f"ls {file.parent}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is no UTF-8 text", hint=f"ls -l {file}") from None
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}", hint=f"a text of at most {MAX_TEXT_BYTES} bytes"
        ) from error


def _check_child(here: Here, bench: Bench, child: Child, variables: Sequence[str]) -> RouterModel:
    if child.words is None:
        error = UsageError(f"no key of {child.name} names its model", hint="model = FILE, or hf-repo = REPO")
        return RouterModel(child=child, error=error)
    command: Command | None = None
    try:
        command = bench.read((*variables, *child.words))
        checked = check_line(here, bench, command, CheckRequest(words=child.words))
    except LauncherError as error:
        return RouterModel(child=child, command=command, error=error)
    return RouterModel(child=child, command=command, checked=checked)


def _with_most(command: Command, most: int) -> tuple[str, ...]:
    words = list(command.corrected)
    while "--models-max" in words:
        at = words.index("--models-max")
        del words[at : at + 2]
    return (command.program, *words, "--models-max", str(most))


def router_document(checked: CheckedRouter) -> dict[str, Any]:
    """Return the verdict as versioned JSON, with the document of `check` for each model."""
    finding, too_large = checked.finding, checked.too_large
    fits = finding is not Finding.DOES_NOT_FIT
    return {
        "schema": PLAN_SCHEMA,
        "fits": None if finding is Finding.UNVERIFIED else fits,
        "verdict": finding.value,
        "router": {
            "source": checked.source,
            "models_max": checked.router.most_loaded,
            "autoload": checked.router.autoload,
            "models_max_that_fits": checked.most_that_fit,
            "made_smaller": list(checked.smaller),
            "too_large": None
            if too_large is None
            else {
                "models": list(too_large.names),
                "where": too_large.where,
                "missing_bytes": too_large.missing_bytes,
                "at_startup": too_large.at_startup,
            },
        },
        "models": [_model_document(model) for model in checked.models],
        "starts": checked.starts,
        "refused": list(checked.refused),
        "corrected": list(checked.argv) or None,
        "notes": [*checked.refused, *checked.notes],
    }


def _model_document(model: RouterModel) -> dict[str, Any]:
    error, finding = model.error, model.finding
    return {
        "name": model.child.name,
        "fits": None if finding is Finding.UNVERIFIED else finding is not Finding.DOES_NOT_FIT,
        "at_startup": model.child.at_startup,
        "argv": None if model.child.words is None else list(model.child.words),
        "check": None if model.checked is None else check_document(model.checked),
        "error": None
        if error is None
        else {"code": error.code, "message": error.message, "hint": error.hint},
    }
