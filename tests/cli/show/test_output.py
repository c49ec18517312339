"""Data to stdout, talk to stderr; one JSON document; progress that a pipe can stand."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from launcher.cli.show import tables
from launcher.cli.show.output import Output, ProgressStyle, plain, printable
from launcher.errors import BadGguf, DoesNotFit
from launcher.progress import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    path: Path
    sizes: tuple[int, ...]


def pull(done: int, total: int | None = 1000) -> Step:
    return Step(phase="pull", done=done, total=total, unit="bytes", text="x.gguf")


def test_values_become_plain_json() -> None:
    assert plain({"inner": Inner(path=Path("/m"), sizes=(1, 2)), "none": None}) == {
        "inner": {"path": "/m", "sizes": [1, 2]},
        "none": None,
    }


def test_an_error_is_a_document_on_stdout_or_two_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    error = DoesNotFit("CUDA0 is 3.0 GiB short", hint="launcher plan x -c 4096")
    Output(as_json=True).error(error)
    Output(as_json=False).error(error)
    out, err = capsys.readouterr()
    assert json.loads(out)["error"] == {
        "code": "does_not_fit",
        "message": "CUDA0 is 3.0 GiB short",
        "hint": "launcher plan x -c 4096",
        "retryable": False,
    }
    assert err == "error: CUDA0 is 3.0 GiB short\nhint: launcher plan x -c 4096\n"


def test_in_a_pipe_progress_is_a_line_per_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(as_json=False).progress() as report:
        for done in range(0, 1001, 7):
            report(pull(done))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "pull: 0 % x.gguf"
    assert len(lines) == 10


def test_jsonl_progress_ends_with_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(as_json=True, progress=ProgressStyle.JSONL).progress() as report:
        for done in range(0, 1001, 10):
            report(pull(done))
    out, err = capsys.readouterr()
    steps = [json.loads(line) for line in err.splitlines()]
    assert out == ""
    assert steps[0]["done"] == 0
    assert steps[-1] == {
        "phase": "pull",
        "done": 1000,
        "total": 1000,
        "unit": "bytes",
        "text": "x.gguf",
        "part": "",
        "said": False,
    }
    assert len(steps) < 100


def test_nobody_is_asked_where_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output(as_json=False)
    assert not output.interactive
    assert output.confirm(yes=False)("Download 300 GiB?")


def test_lines_for_scripts_are_never_folded(capsys: pytest.CaptureFixture[str]) -> None:
    long = "/" + "deep/" * 40 + "model.gguf"
    Output(as_json=False).show_lines({"paths": [long]}, [long])
    assert capsys.readouterr().out == long + "\n"


EVIL = "a\x1b]0;X\x9b2Jb\udcff\u202ec"
SPELLED = r"a\x1b]0;X\x9b2Jb\udcff\u202ec"


def test_what_a_file_says_is_never_obeyed_by_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=False)
    output.say(EVIL)
    output.error(BadGguf(f"key {EVIL} is missing", hint=EVIL))
    output.show(None, tables.facts([("model", EVIL)]), tables.grid(("quant",), [(EVIL,)]), Text(EVIL))
    out, err = capsys.readouterr()
    assert err == f"{SPELLED}\nerror: key {SPELLED} is missing\nhint: {SPELLED}\n"
    assert out.count(SPELLED) == 3
    assert all(letter.isprintable() or letter == "\n" for letter in out + err)


def test_json_keeps_the_text_and_is_safe_to_print(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).show({"model": EVIL})
    Output(as_json=True).error(BadGguf(EVIL))
    out = capsys.readouterr().out
    shown, _, failed = out.partition("}\n")
    assert json.loads(shown + "}") == {"model": EVIL}
    assert json.loads(failed)["error"]["message"] == EVIL
    assert "\x1b" not in out
    assert "\x9b" not in out
    out.encode()


def test_printable_text_lines_and_tabs_stay() -> None:
    assert printable("größer 日本\n\tx") == "größer 日本\n\tx"


def test_in_a_pipe_nothing_is_folded_and_no_blanks_are_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    url = "http://127.0.0.1:49449/v1"
    rows = [("a-name-of-some-length-" * 4, url, "x"), ("b", url, "y" * 60)]
    Output(as_json=False).show(None, tables.grid(("name", "url", "what"), rows))
    lines = capsys.readouterr().out.splitlines()
    assert sum(url in line for line in lines) == 2
    assert [line.rstrip() for line in lines] == lines


def test_at_80_columns_a_url_stays_whole(capsys: pytest.CaptureFixture[str]) -> None:
    url = "http://127.0.0.1:49449/v1"
    row = ("qwen3-30b-a3b-instruct-2507-q4_k_m", "degraded", url, "12m", "746.1 MiB", "123.4")
    headers = ("name", "state", "url", "up", "resident", "tok/s")
    table = tables.grid(headers, [row], right=frozenset(headers[3:]), whole=frozenset(headers[1:]))
    Console(width=80).print(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert sum(url in line for line in lines) == 1
    assert any("746.1 MiB" in line for line in lines)


@pytest.mark.parametrize(("answer", "agreed"), [("y", True), ("", False), ("n", False)])
def test_a_question_says_what_may_be_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, *, agreed: bool
) -> None:
    monkeypatch.setattr(Output, "interactive", True)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
    assert Output(as_json=False).confirm(yes=False)("Download [x]\x1b[2J, 240 GB?") is agreed
    assert capsys.readouterr().err == "Download [x]\\x1b[2J, 240 GB? [y/N] "
