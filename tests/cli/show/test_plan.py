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


def test_a_plan_that_does_not_fit_names_the_option_that_says_what_would_do() -> None:
    line = ("plan", "kimi-k2.5", "--gpu", "3090", "--ram", "64G", "--offline")
    done = launcher(*line)
    assert done.returncode == 3, done.stderr
    assert "the same command with --buy" in done.stdout
    bought = launcher(*line, "--buy")
    assert bought.returncode == 3
    assert "what would do:" in bought.stdout
    assert "--buy" not in bought.stdout
