"""ls as a user meets it, against a local Hub."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cli.shell import REF, SHARDS, Shell


def test_what_is_in_folders_that_were_named_is_listed(shell: Shell, tmp_path: Path) -> None:
    # with whose it is: what launcher put there can be removed, what it found there cannot
    plain, mine = tmp_path / "plain", tmp_path / "mine"
    mine.mkdir()
    for name, content in SHARDS.items():
        (mine / name).write_bytes(content)
    shell.json("pull", REF, "--dir", str(plain), "--from", str(mine))
    (plain / "other-Q8_0.gguf").write_bytes(b"mine")
    (plain / "empty").mkdir()
    first = next(iter(SHARDS))
    listed = sorted((one["name"], one["store"], one["is_whole"]) for one in shell.json("ls"))
    assert listed == [
        (str(mine / first), "yours", True),
        (str(plain / first), "launcher", True),
        (str(plain / "other-Q8_0.gguf"), "yours", True),
    ]
    code, _, err = shell.type("rm", str(mine / first), "-y")
    files = " ".join(str(mine / name) for name in SHARDS)
    assert (code, err) == (
        2,
        f"error: {mine / first} was not put there by launcher\nhint: rm {files}\n",
    )
    assert shell.json("rm", str(plain / first), "-y")["freed_bytes"] == 0
    assert sorted(path.name for path in plain.iterdir() if path.name != ".locks") == [
        "empty",
        "other-Q8_0.gguf",
    ]
    assert sorted(path.name for path in mine.iterdir()) == sorted(SHARDS)
    shutil.rmtree(mine)
    assert [one["name"] for one in shell.json("ls")] == [str(plain / "other-Q8_0.gguf")]
