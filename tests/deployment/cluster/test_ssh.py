"""ssh's command lines: words arrive as they are, and a peer's answer is bounded and checked."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

import pytest

from launcher.deployment.cluster import ssh
from launcher.deployment.cluster.remote import Remote
from launcher.errors import NotFound, TryAgain, UsageError

BOX = Remote(target="me@box", program=("launcher",))
NASTY = ["; rm -rf /", "$(id)", "`id`", "a b", "'", '"', "\\", "\n", "*", "~", "-x", ""]


def test_words_are_quoted_once_for_the_remote_shell() -> None:
    *_, target, command = ssh.launcher_argv(BOX, NASTY)
    assert target == "me@box"
    assert shlex.split(command) == ["launcher", *NASTY]


def test_the_connection_is_watched_checked_and_asks_nobody() -> None:
    argv = ssh.ssh_argv(BOX, (), ["127.0.0.1:1:127.0.0.1:2"])
    for option in (
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "ExitOnForwardFailure=yes",
        "ServerAliveInterval=3",
        "ServerAliveCountMax=2",
    ):
        assert argv[argv.index(option) - 1] == "-o"
    assert argv[-3:] == ("-N", "--", "me@box")


@pytest.mark.parametrize(
    "target", ["-oProxyCommand=id", "a b", "me@-x", "", "a;b", "a\nb", "@box", "x" * 400]
)
def test_a_target_that_is_no_host_is_refused(target: str) -> None:
    with pytest.raises(UsageError, match="no user@host"):
        ssh.ssh_argv(Remote(target=target), ())


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `ssh` that is a script: what it prints is what a hostile machine might."""
    program = tmp_path / "ssh"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return program


def answers(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_the_document_is_returned(peer: Path) -> None:
    answers(peer, """echo '{"schema": 1}'""")
    assert ssh.ask_launcher(BOX, ("cluster", "node")) == {"schema": 1}


def test_an_error_there_is_one_here(peer: Path) -> None:
    answers(peer, """echo '{"error": {"message": "no \\u001b[31m such", "hint": "launcher ls"}}'; exit 4""")
    with pytest.raises(UsageError, match="me@box: no ") as caught:
        ssh.ask_launcher(BOX, ("up",))
    assert caught.value.message.isprintable()
    assert caught.value.hint == "on me@box, as it says: launcher ls"


def test_a_machine_that_is_away_says_what_ssh_says(peer: Path) -> None:
    answers(peer, "echo 'ssh: connect to host box port 22: No route to host' >&2; exit 255")
    with pytest.raises(TryAgain, match="cannot be reached: ssh: connect to host box port 22: No route"):
        ssh.ask_launcher(BOX, ("up",))


def test_a_machine_without_launcher_is_told(peer: Path) -> None:
    answers(peer, "echo 'sh: launcher: not found' >&2; exit 127")
    with pytest.raises(NotFound, match="no 'launcher' on me@box"):
        ssh.ask_launcher(BOX, ("up",))


@pytest.mark.parametrize("script", ["echo hello", "echo '['", "exit 0", "printf '\\377\\376'"])
def test_what_is_no_json_is_no_answer(peer: Path, script: str) -> None:
    answers(peer, script)
    with pytest.raises(UsageError, match="answers no JSON"):
        ssh.ask_launcher(BOX, ("up",))


@pytest.mark.parametrize("script", ["exec yes", "exec sleep 60", "exec yes >&2"])
def test_an_answer_without_an_end_is_cut(peer: Path, script: str) -> None:
    answers(peer, script)
    with pytest.raises(TryAgain, match="sent no answer within"):
        ssh.ask_launcher(BOX, ("up",), limit_s=0.5)
