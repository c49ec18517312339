"""The value to stdout, everything else to stderr; one JSON document."""

from __future__ import annotations

import io
import json

import pytest
from rich.text import Text

from launcher.cli.show import tables
from launcher.cli.show.output import Output
from launcher.errors import BadGguf, DoesNotFit


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


@pytest.mark.parametrize(("answer", "agreed"), [("y", True), ("", False), ("n", False)])
def test_a_question_says_what_may_be_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, *, agreed: bool
) -> None:
    monkeypatch.setattr(Output, "interactive", True)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
    assert Output(as_json=False).confirm(yes=False)("Download [x]\x1b[2J, 240 GB?") is agreed
    assert capsys.readouterr().err == "Download [x]\\x1b[2J, 240 GB? [y/N] "


def test_on_a_terminal_a_sentence_is_folded_between_words_and_a_command_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    monkeypatch.setenv("COLUMNS", "40")
    command = "launcher plan qwen3-30b-a3b --machine 8xh200-141g"
    sentence = "there is not enough memory for it and for all that runs here already"
    Output(as_json=False).error(DoesNotFit(sentence, hint=command))
    lines = [line.rstrip() for line in capsys.readouterr().err.splitlines()]
    assert lines[-1] == f"hint: {command}"
    assert " ".join(lines[:-1]) == f"error: {sentence}"
    assert max(map(len, lines[:-1])) <= 40
