"""What `scripts/setup --for-use` takes of requirements.lock: all that the launcher imports, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def taken(mode: str) -> str:
    text = (ROOT / "scripts/setup").read_text(encoding="utf-8")
    function = text[text.index("needed() {") : text.index("\n}\n", text.index("needed() {")) + 3]
    script = f"mode={mode}\n{function.replace('.venv/bin/python', sys.executable)}needed\n"
    return subprocess.run(["bash", "-c", script], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def asked_for_here(names: list[str]) -> set[str]:
    """What is installed because of these requirements, by what the packages say of themselves."""
    found: set[str] = set()
    for text in names:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if requirement.marker is not None and not any(
            requirement.marker.evaluate({"extra": e}) for e in extras
        ):
            continue
        try:
            below = requires(name) or []
        except PackageNotFoundError:  # of another system
            continue
        plain = [
            each
            for each in below
            if (marker := Requirement(each).marker) is None or marker.evaluate({"extra": ""})
        ]
        found |= {name, *asked_for_here(plain)}
    return found


def test_what_is_installed_for_use_is_what_the_launcher_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    used = {line.partition("==")[0] for line in taken("for-use").splitlines() if line[:1].isalnum()}
    lacking = asked_for_here(project["dependencies"]) - used
    assert lacking == set()
    assert not used & {"pytest", "numpy", "execnet", "mypy", "openai"}


def test_for_tests_all_of_the_lock_is_taken() -> None:
    assert taken("").strip() == (ROOT / "requirements.lock").read_text(encoding="utf-8").strip()
