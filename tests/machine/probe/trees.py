"""Folder trees like /proc and /sys, made from captures.

In a capture `== /path` opens a file, `== /path -> /target` is a link.
"""

from __future__ import annotations

import os
from pathlib import Path

from launcher.machine.probe.proc_files import KernelFiles

CAPTURES = Path(__file__).parents[2] / "captures"


def capture(name: str) -> str:
    return (CAPTURES / name).read_text()


def plant(root: Path, *names: str, **changes: str) -> KernelFiles:
    """Write the captures' files under `root`; more or changed files are given as `**{path: text}`."""
    contents: dict[str, str] = {}
    for name in names:
        for section in capture(name).removeprefix("== ").split("\n== "):
            path, _, text = section.partition("\n")
            contents[path] = text
    for path, text in (contents | changes).items():
        place, _, target = path.partition(" -> ")
        file = root / place.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        if target:
            aim = root / target.lstrip("/")
            aim.mkdir(parents=True, exist_ok=True)
            file.symlink_to(os.path.relpath(aim, file.parent))
        else:
            file.write_text(text)
    return KernelFiles(root=root)
