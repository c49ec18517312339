"""A file of tuned settings may be anybody's by now: nothing in it becomes a flag that tune does not set."""

from __future__ import annotations

import dataclasses
import json

import pytest

from launcher.plan.tuning.tuned import Tuned, parse_tuned, tuned_json
from launcher.system.json_object import Malformed
from tests.plan.forecast.subject import SUBJECT

FOUND = Tuned(
    subject=SUBJECT,
    words=("-t", "8", "-tb", "8", "--spec-type", "ngram-map-k", "-ctk", "q8_0", "--numa", "isolate"),
    ratio=1.2,
    workload="512 new tokens and 64 answered",
)


def test_what_is_written_is_read() -> None:
    assert parse_tuned(json.dumps(tuned_json(FOUND))) == FOUND


@pytest.mark.parametrize(
    "words",
    [
        ("--host", "0.0.0.0"),
        ("--slot-save-path", "tmp"),
        ("-m", "other"),
        ("--jinja",),
        ("-t", "8", "--tools", "all"),
        ("-t", "--webui"),
        ("-t",),
        ("t", "-t"),
        ("-ctk", "/dev/zero"),
        ("-t", "8\n"),
    ],
)
def test_words_that_no_setting_has_are_malformed(words: tuple[str, ...]) -> None:
    foreign = dataclasses.replace(FOUND, words=words)
    with pytest.raises(Malformed):
        parse_tuned(json.dumps(tuned_json(foreign)))


@pytest.mark.parametrize("text", ["\x1b[2J", "two\nlines", "x" * 1000])
def test_text_that_would_be_shown_is_one_line(text: str) -> None:
    for name in ("date", "model_id", "quant", "engine", "workload"):
        with pytest.raises(Malformed):
            parse_tuned(json.dumps({**tuned_json(FOUND), name: text}))
