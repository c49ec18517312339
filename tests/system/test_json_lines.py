"""Values kept as lines of JSON."""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from launcher.system import json_lines
from launcher.system.json_lines import LIMIT_BYTES, append_json, last_changed, read_json_lines
from launcher.system.json_object import JsonObject, parse_json


def _number(line: bytes) -> int:
    return JsonObject(parse_json(line)).whole("n")


def _read(path: Path) -> list[int]:
    return list(read_json_lines(path, _number))


def test_lines_are_read_oldest_first_across_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "new" / "kept.jsonl"
    append_json(path, {"n": 1})
    with path.open("a") as file:
        file.write(" " * LIMIT_BYTES + "\n")
    append_json(path, {"n": 2})
    assert path.stat().st_size < 100
    assert _read(path) == [1, 2]


def test_two_that_find_the_file_full_begin_one_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept.jsonl"
    append_json(path, {"n": 1})
    with path.open("a") as file:
        file.write(" " * LIMIT_BYTES + "\n")
    lock = json_lines.exclusive

    def after_another(at: Path) -> AbstractContextManager[int]:
        monkeypatch.undo()
        append_json(path, {"n": 2})
        return lock(at)

    monkeypatch.setattr(json_lines, "exclusive", after_another)
    append_json(path, {"n": 3})
    assert _read(path) == [1, 2, 3]


def test_half_a_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    append_json(path, {"n": 1})
    with path.open("a") as file:
        file.write('{"n": 2, "ha')
    append_json(path, {"n": 3})
    append_json(path, {"n": 4})
    assert _read(path) == [1, 3, 4]


def test_a_text_that_utf_8_does_not_have_is_written(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    append_json(path, {"n": 1, "name": "m\udcff"})
    assert json.loads(path.read_text())["name"] == "m\udcff"


def test_a_link_or_a_pipe_is_not_appended_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError, match=r"link|no regular file"):
            append_json(tmp_path / name, {"n": 1})
    assert not (tmp_path / "elsewhere").exists()
    assert _read(tmp_path / "pipe") == []


def test_a_disk_that_takes_half_a_line_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "kept.jsonl", os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
    with pytest.raises(OSError, match="No space"):
        append_json(path, {"n": 1})
    monkeypatch.undo()
    append_json(path, {"n": 2})
    assert _read(path) == [2]


def test_a_new_line_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    before = last_changed(path)
    append_json(path, {"n": 1})
    assert last_changed(path) != before
