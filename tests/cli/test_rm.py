"""rm as a user meets it, against a local Hub."""

from __future__ import annotations

import os
from pathlib import Path

from tests.cli.shell import REF, SHARDS, Shell


def test_a_file_is_removed_by_whatever_path_names_it(shell: Shell, tmp_path: Path) -> None:
    plain, link = tmp_path / "plain", tmp_path / "link"
    shell.json("pull", REF, "--dir", str(plain))
    link.symlink_to(plain)
    first = next(iter(SHARDS))
    assert shell.json("rm", str(link / first), "-y")["removed"] == [str(plain / first)]
    shell.json("pull", REF, "--dir", str(link))
    relative = os.path.relpath(plain / first)
    assert shell.json("rm", relative, "-y")["removed"] == [str(plain / first)]
    assert not list(plain.glob("*.gguf"))
