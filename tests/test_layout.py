"""What holds for the whole package: whatever says Pure is under the contract that holds it to that."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
    "contracts"
]


def test_whatever_says_pure_is_under_the_contract() -> None:
    [contract] = [each for each in CONTRACTS if each["name"] == "the deciding half does no I/O"]
    held = tuple(contract["source_modules"])
    claimed = {_module(file) for file in ROOT.glob("launcher/**/*.py") if _says_pure(file)}
    assert claimed, "no module says Pure"
    assert sorted(module for module in claimed if not _is_under(module, held)) == []


def _says_pure(file: Path) -> bool:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    first = text.split("\n\n")[0]
    return first.rstrip().endswith(("Pure.", "PURE.", "PURE"))


def _module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _is_under(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
