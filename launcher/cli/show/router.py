"""The verdict on a llama-server line that serves many models, for check."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType

from launcher.cli.show.checked import say_answer
from launcher.cli.show.output import Output
from launcher.cli.show.plan import fold_command_line
from launcher.cli.show.tables import facts, grid, line
from launcher.commands.check_router import CheckedRouter
from launcher.commands.check_together import RouterModel, TooLarge
from launcher.plan.plan import Finding
from launcher.units import format_bytes, listed

_YES = {
    Finding.FITS: "yes",
    Finding.FITS_BY_ESTIMATE: "yes, by estimate: no simulator could be asked",
    Finding.UNVERIFIED: "not verified: some models could not be checked",
    Finding.DOES_NOT_FIT: "no: some models do not fit when they are alone",
}


def render_router(checked: CheckedRouter) -> tuple[RenderableType, ...]:
    """Lay out the verdict on a router: on the sets of models, then on each of them."""
    most = checked.router.most_loaded
    limit = f"at most {most} loaded together" if most > 0 else "any number loaded together"
    head = facts(
        [
            ("router", f"{len(checked.models)} models of {checked.source}, {limit} (--models-max {most})"),
            ("fits", _say_fits(checked)),
            *(("refused", sentence) for sentence in checked.refused),
        ]
    )
    rows = {where: None for model in checked.models for where in _taken(model)}
    table = grid(
        ("model", "context", *rows, "alone"),
        [_row(model, tuple(rows)) for model in checked.models],
        right=frozenset({"context", *rows}),
    )
    return (head, table, *(line(f"note: {note}") for note in _notes(checked)))


def show_router_flags(checked: CheckedRouter, out: Output) -> None:
    """Print the line that fits: fewer models at a time."""
    if checked.argv:
        out.write(f"\nthese flags fit:\n\n{fold_command_line(checked.argv)}\n")


def _say_fits(checked: CheckedRouter) -> str:
    if checked.too_large is not None:
        return _say_too_large(checked.too_large, checked.most_that_fit)
    fits = _YES[checked.finding]
    if checked.smaller and checked.finding in {Finding.FITS, Finding.FITS_BY_ESTIMATE}:
        fits += ", one after another: --fit makes smaller what is loaded later"
    return fits if checked.starts else f"{fits}, but {checked.engine} would not start with this line"


def _say_too_large(found: TooLarge, most_that_fit: int | None) -> str:
    *before, last = found.names
    short = (
        f"{found.where} is {format_bytes(found.missing_bytes)} short" if found.where else "it does not load"
    )
    if found.at_startup:
        return f"no: {listed(found.names)} load at once, on startup: {short}; load fewer of them there"
    cure = f"; --models-max {most_that_fit} fits" if most_that_fit else ""
    return f"no: {last} does not fit beside {listed(before)}: {short}{cure}"


def _row(model: RouterModel, rows: tuple[str, ...]) -> tuple[str, ...]:
    name = f"{model.child.name} (on startup)" if model.child.at_startup else model.child.name
    taken = _taken(model)
    verdict = model.checked.verdict if model.checked else None
    context = "" if verdict is None else str(verdict.pool)
    return (
        name,
        context,
        *(format_bytes(taken[row]) if row in taken else "-" for row in rows),
        _alone(model),
    )


def _taken(model: RouterModel) -> dict[str, int]:
    return {row.where: row.used_bytes for row in model.checked.verdict.ledger} if model.checked else {}


def _alone(model: RouterModel) -> str:
    if model.checked is not None:
        return say_answer(model.checked)
    return "not known" if model.finding is Finding.UNVERIFIED else "no"


def _notes(checked: CheckedRouter) -> Iterator[str]:
    for model in checked.models:
        if model.error is not None:
            yield f"{model.child.name}: {model.error.message}"
        if model.checked is not None:
            yield from (
                f"{model.child.name}: {note}" for note in (*model.checked.refused, *model.checked.notes)
            )
            if not model.checked.verdict.fits:
                yield from (f"{model.child.name}: {reason}" for reason in model.checked.verdict.reasons[:1])
    yield from checked.notes
