import os
from pathlib import Path

from launcher.deployment.log_file import follow, open_log, tail, trim


def write(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_a_start_moves_previous_logs_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    for text in ("first", "second", "third", "fourth"):
        descriptor = open_log(path)
        os.write(descriptor, text.encode())
        os.close(descriptor)
    kept = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert kept == {"a.log": "fourth", "a.log.1": "third", "a.log.2": "second"}


def test_a_running_log_is_bounded_without_losing_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    writer = open_log(path)
    try:
        os.write(writer, b"x" * 999)
        trim(path, 1000)
        assert path.stat().st_size == 999
        os.write(writer, b"yy")
        trim(path, 1000)
        os.write(writer, b"after")
    finally:
        os.close(writer)
    assert path.read_text() == "after"
    assert (tmp_path / "a.log.1").read_text() == "x" * 999 + "yy"
    assert oct((tmp_path / "a.log.1").stat().st_mode & 0o777) == "0o600"
    trim(tmp_path / "missing.log", 0)


def test_tail_begins_with_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\nthree\n")
    assert tail(path) == "one\ntwo\nthree\n"
    assert tail(path, 9) == "three\n"
    assert tail(tmp_path / "missing") == ""


def test_follow_goes_through_rotation_and_emptying(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\n")
    lines = follow(path)
    assert [next(lines), next(lines)] == ["one", "two"]
    write(path, "last of the old")
    path.rename(tmp_path / "a.log.1")
    write(path, "first of the new\n")
    assert [next(lines), next(lines)] == ["last of the old", "first of the new"]
    trim(path, 0)
    write(path, "x\n")
    assert next(lines) == "x"
    lines.close()


def test_follow_ends_with_the_last_words(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\nno newline")
    assert list(follow(path, ended=lambda: True)) == ["one", "two", "no newline"]
    assert list(follow(path, last_lines=2, ended=lambda: True)) == ["two", "no newline"]
    assert list(follow(path, last_lines=0, ended=lambda: True)) == []
    assert list(follow(path, last_lines=99, ended=lambda: True)) == ["one", "two", "no newline"]
    assert list(follow(tmp_path / "missing", last_lines=9, ended=lambda: True)) == []
