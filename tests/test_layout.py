"""What holds for the whole package: its top level, and whatever says Pure is under the contract for it."""

from __future__ import annotations

import ast
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
    "contracts"
]


TOP_LEVEL = [
    "LICENSE",
    "README.md",
    "launcher",
    "profiles",
    "pyproject.toml",
    "requirements.lock",
    "scripts",
    "tests",
]


@pytest.mark.skipif(shutil.which("git") is None, reason="what is tracked is asked of git")
def test_nothing_else_lies_at_the_top() -> None:
    command = ["git", "ls-tree", "--name-only", "-z", "HEAD"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    names = listed.stdout.decode(errors="replace").split("\0")
    assert sorted(name for name in names if name and not name.startswith(".")) == TOP_LEVEL


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
