"""Let typer read a command that takes bundles of options."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from launcher.cli.options import bundles, measuring, serving
from launcher.cli.show.output import Output

_BUNDLES = (
    serving.AskOptions,
    bundles.FilesOptions,
    bundles.PlanOnlyOptions,
    bundles.OutputOptions,
    bundles.EngineOptions,
    bundles.PlanOptions,
    bundles.MachineOptions,
    serving.ServeOptions,
    measuring.BenchOptions,
    measuring.TuneOptions,
    measuring.TurnOptions,
)


def unfold(function: Callable[..., None]) -> Callable[..., None]:
    """Return `function` with each bundle parameter replaced by the bundle's fields, for typer to read.

    A parameter annotated `Output` stands for OutputOptions and is made from it.
    """
    hints = get_type_hints(function, include_extras=True)
    folded: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        annotation = hints[parameter.name]
        bundle = _bundle_of(annotation)
        if bundle in _BUNDLES:
            folded[parameter.name] = annotation
            parameters += _parameters_of(bundle)
        else:
            parameters.append(parameter.replace(annotation=annotation, kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(function)
    def command(**values: Any) -> None:
        # first, for it takes fields out of `values`: a field may be called like a bundle parameter
        whole = {name: _fold(annotation, values) for name, annotation in folded.items()}
        function(**values, **whole)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _bundle_of(annotation: Any) -> Any:
    return bundles.OutputOptions if annotation is Output else annotation


def _parameters_of(bundle: type) -> list[inspect.Parameter]:
    hints = get_type_hints(bundle, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(bundle)
    ]


def _fold(annotation: type, values: dict[str, Any]) -> Any:
    """Make the bundle from its fields in `values`, and take them out."""
    fields = {field.name: values.pop(field.name) for field in dataclasses.fields(_bundle_of(annotation))}
    if annotation is Output:
        return Output(as_json=fields["json"], progress=fields["progress"])
    return annotation(**fields)
