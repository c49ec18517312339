from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.engine.key_file import read_keys
from launcher.errors import UsageError


def test_one_key_a_line_without_comments(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# ours\n\nsk-1\nsk 2\n#sk-3\nsk-4")
    assert read_keys(path) == ("sk-1", "sk 2", "sk-4")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no key"),
        (b"k" * 8001 + b"\n", "has a key of 8001 characters in line 1, more than 8000"),
        (b"\n\n# none\n", "holds no key"),
        (b"sk-1\r\n", r"has Windows line ends \(CRLF\) in line 1"),
        (b"sk-1\n\r\n", r"has Windows line ends \(CRLF\) in line 2"),
        (b"sk-1\n sk-2\n", "has blanks before or after the key in line 2"),
        (b" \n", "has blanks before or after the key in line 1"),
        (b"sk\x00-1\n", "has a character in line 1 that HTTP headers do not carry"),
        ("﻿sk-1\n".encode(), "has a character in line 1"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"x" * (1 << 17), "has more than 65536 bytes"),
    ],
)
def test_what_llama_server_would_refuse_is_said_before_the_load(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=problem) as caught:
        read_keys(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("kind", ["fifo", "folder", "zero", "gone"])
def test_only_a_file_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "keys"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "zero":
            path.symlink_to("/dev/zero")
        case _:
            pass
    with pytest.raises(UsageError, match=r"is not a regular file|cannot be read"):
        read_keys(path)
