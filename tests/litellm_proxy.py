"""A LiteLLM proxy for tests and benchmarks, in an environment of its own beside the launcher's.

python -m tests.litellm_proxy     installs it into the tests' cache (750 MB). CI does; LAUNCHER_TEST_LITELLM names another
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from launcher.system.locks import exclusive
from launcher.system.settings import read_settings

VERSION = "1.108.7"


def find_litellm(cache_dir: Path, env: Mapping[str, str]) -> Path | None:
    """Find its program; None if it is not installed."""
    named = env.get("LAUNCHER_TEST_LITELLM")
    program = Path(named) if named else _folder(cache_dir) / "bin" / "litellm"
    return program if program.exists() else None


def install(cache_dir: Path) -> None:
    """Install it unless it is there. Raises CalledProcessError."""
    folder = _folder(cache_dir)
    with exclusive(folder.with_name(f"{folder.name}.lock")):
        if (folder / "bin" / "litellm").exists():
            return
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input")
        subprocess.run([*pip, f"litellm[proxy]=={VERSION}"], check=True)


def _folder(cache_dir: Path) -> Path:
    return cache_dir / "tests" / f"litellm-{VERSION}"


if __name__ == "__main__":
    install(read_settings().cache_dir)
