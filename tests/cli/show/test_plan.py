"""The command line of a plan, ready to paste."""

from __future__ import annotations

import shlex

from launcher.cli.show.plan import fold_command_line
from tests.cli.shell import launcher


def test_a_line_is_folded_between_flags_and_a_flag_keeps_its_value() -> None:
    argv = ["llama-server", "-m", "/models/a b.gguf", "-ngl", "-1", "--port", "8080"]
    folded = fold_command_line(argv, width=40)
    lines = folded.split(" \\\n")
    assert lines == ["llama-server -m '/models/a b.gguf'", "  -ngl -1 --port 8080"]
    assert shlex.split(folded.replace("\\\n", "")) == argv


def test_a_short_line_stays_whole() -> None:
    assert fold_command_line(["llama-server", "-c", "512"]) == "llama-server -c 512"


def test_a_plan_that_does_not_fit_says_at_once_what_would_do() -> None:
    line = ("plan", "kimi-k2.5", "--gpu", "3090", "--ram", "64G", "--offline")
    done = launcher(*line, COLUMNS="80")
    assert done.returncode == 3, done.stderr
    assert "would do  --from-disk: " in done.stdout
    assert "          256.0 GiB of RAM instead of 64.0 GiB: TQ1_0, about " in done.stdout
    assert "launcher recommend --gpu 3090 --ram 64G" in done.stdout
    assert len(done.stdout.splitlines()) <= 15
