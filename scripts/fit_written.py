"""Write fitted factors into launcher/plan/forecast/factors.py, with three digits each."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

from launcher.plan.forecast.factors import Bands, Factors, Laws

TARGET = Path(__file__).resolve().parent.parent / "launcher/plan/forecast/factors.py"


def write(laws: Laws, ik: Laws) -> None:
    """Write the factors between the marks of factors.py, ik_llama.cpp's as what differs from llama.cpp's."""
    families = "".join(
        f"ProcessorFamily.{family.name}: {_call('Factors', factors)},"
        for family, factors in laws.families.items()
    )
    others = "".join(
        f"ProcessorFamily.{family.name}: replace(LAWS.of(ProcessorFamily.{family.name}), "
        f"{_differences(factors, laws.of(family))}),"
        for family, factors in ik.families.items()
        if _differences(factors, laws.of(family))
    )
    text = (
        f"LAWS = Laws(families={{{families}}}, {_scalars(laws)})\n"
        f"IK_LAWS = replace(LAWS, families=LAWS.families | {{{others}}}, {_scalars(ik)})\n"
    )
    between = re.compile(r"(# fitted: begin[^\n]*\n).*?(# fitted: end)", re.DOTALL)
    before = TARGET.read_text(encoding="utf-8")
    TARGET.write_text(between.sub(lambda match: match[1] + text + match[2], before), encoding="utf-8")


def _call(name: str, factors: Factors) -> str:
    return f"{name}({', '.join(f'{f.name}={_short(getattr(factors, f.name))}' for f in fields(factors))})"


def _differences(factors: Factors, base: Factors) -> str:
    values = ((f.name, _short(getattr(factors, f.name)), _short(getattr(base, f.name))) for f in fields(base))
    return ", ".join(f"{name}={value}" for name, value, usual in values if value != usual)


def _scalars(laws: Laws) -> str:
    values = ", ".join(f"{f.name}={getattr(laws.bands, f.name):.2f}" for f in fields(Bands))
    names = ("second_socket", "few_rows", "head_time")
    numbers = ", ".join(f"{name}={_short(getattr(laws, name))}" for name in names)
    return f"{numbers}, bands=Bands({values}),"


def as_written(laws: Laws) -> Laws:
    """Return the laws with the digits that factors.py has."""
    return replace(
        laws,
        families={
            family: Factors(**{f.name: float(_short(getattr(factors, f.name))) for f in fields(Factors)})
            for family, factors in laws.families.items()
        },
        second_socket=float(_short(laws.second_socket)),
        few_rows=float(_short(laws.few_rows)),
        head_time=float(_short(laws.head_time)),
    )


def _short(value: float) -> str:
    return f"{value:.3g}"
