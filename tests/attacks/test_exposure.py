"""No start, the first or any later, listens beyond loopback without a key that can be read and is not empty."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.commands.export.running import export
from launcher.commands.restart import restart
from launcher.deployment.address import check_start
from launcher.deployment.deploy import Request, bring_up
from launcher.deployment.install.containers import compose_file, kubernetes_manifest
from launcher.deployment.install.export import (
    Export,
    Format,
    shell_script,
    systemd_unit,
)
from launcher.deployment.record import Phase
from launcher.deployment.records import read_all, save_record
from launcher.deployment.status import DeploymentState, read_status
from launcher.deployment.supervisor import questions
from launcher.deployment.supervisor.lifecycle import HealthChecked, Unfit
from launcher.deployment.supervisor.questions import Questions, Reply
from launcher.errors import LauncherError, UsageError
from launcher.progress import silent
from launcher.system.settings import read_settings
from tests.conftest import end_everything
from tests.deployment.recorded import a_deployment
from tests.serving import a_request, fake_command, record_of, stub_model, until

OPEN = "0.0.0.0"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("sk-1\n")
    return path


@pytest.fixture
def deployments() -> Iterator[Path]:
    """The folder that commands use."""
    folder = read_settings().deployments_dir
    folder.mkdir(parents=True)
    yield folder
    end_everything(folder)


def exposed(tmp_path: Path, keys: Path, host: str = OPEN) -> Request:
    def argv_for(port: int) -> tuple[str, ...]:
        words = ("--host", host, "--port", str(port), "--api-key-file", str(keys))
        return (*fake_command(), "-m", str(tmp_path / "stub.gguf"), *words)

    request = a_request("m", fake_command(), stub_model(tmp_path), keep_up=True)
    return replace(request, host=host, api_key_file=keys, argv_for=argv_for)


@pytest.mark.parametrize("host", [OPEN, "127.0.0.1"])
@pytest.mark.parametrize("content", ["", "# none\n", "sk-1\r\n"])
def test_a_crashed_server_does_not_come_back_without_its_key(
    deployments: Path, tmp_path: Path, keys: Path, host: str, content: str
) -> None:
    deployment = bring_up(deployments, exposed(tmp_path, keys, host))
    keys.write_text(content)
    os.kill(deployment.pid or 0, signal.SIGKILL)
    until(lambda: record_of(deployments).restarts == 1 and record_of(deployments).phase is Phase.BACKOFF)
    failure = record_of(deployments).failure
    assert failure is not None
    assert failure.sentence.startswith(f"the API key file {keys} ")
    keys.write_text("sk-1\n")
    until(lambda: read_status(record_of(deployments)).state is DeploymentState.RUNNING)


def test_restart_says_so_before_it_ends_what_runs(deployments: Path, tmp_path: Path, keys: Path) -> None:
    deployment = bring_up(deployments, exposed(tmp_path, keys))
    keys.write_text("\n")
    with pytest.raises(UsageError, match="holds no key"):
        restart("m", silent)
    assert record_of(deployments) == deployment


@pytest.mark.parametrize(
    "words", [("--host", ""), ("--host", OPEN), ("--host", "::"), ("--host", "127.0.0.1", "--host", OPEN)]
)
def test_the_command_line_is_what_counts(deployments: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"can be reached from other machines and no API key is set"):
        check_start(("llama-server", *words))
    save_record(deployments, a_deployment(argv=("llama-server", *words), host="127.0.0.1"))
    for format_ in Format:
        with pytest.raises(UsageError, match="no API key is set"):
            export("m", format_)


def test_a_first_start_without_a_key_leaves_nothing(deployments: Path, tmp_path: Path, keys: Path) -> None:
    keys.write_text("")
    with pytest.raises(UsageError, match="holds no key"):
        bring_up(deployments, exposed(tmp_path, keys))
    assert read_all(deployments) == ()


def an_export(*words: str, program: str = "/bin/echo") -> Export:
    return Export(
        name="m",
        model_id="m",
        argv=(program, *words),
        port=1,
        host_bytes=1,
        limit_bytes=None,
    )


def test_an_exported_script_looks_for_the_key_itself(tmp_path: Path, keys: Path) -> None:
    script = tmp_path / "serve.sh"
    script.write_text(shell_script(an_export("--api-key-file", str(keys), "it's $HOME")))
    run = ["/bin/sh", str(script)]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.endswith(" it's $HOME\n")
    for content in ("", "\n# none\n", None):
        keys.unlink()
        if content is not None:
            keys.write_text(content)
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (78, "")
        assert f"the API key file {keys} holds no key" in done.stderr


def test_a_cluster_gets_no_open_server() -> None:
    assert '"/keys/api-key"' in kubernetes_manifest(an_export("--host", "127.0.0.1"), "image")
    assert "secretName" in kubernetes_manifest(an_export("--host", "127.0.0.1"), "image")
    keyed = compose_file(an_export("--api-key-file", "/etc/k"), "image")
    assert 'exec \\"$$@\\"' in keyed
    assert "127.0.0.1:1:1" in compose_file(an_export("--host", "127.0.0.1"), "image")


@pytest.mark.parametrize("error", [UsageError("no key"), ZeroDivisionError("division by zero")])
def test_a_question_that_fails_is_an_answer(error: Exception) -> None:
    class OneChild:
        number = 7

    asked = Questions()
    for failed, event in (
        (questions.watching_failed, Unfit()),
        (questions.check_failed, HealthChecked(well=False)),
    ):

        def fail() -> Reply:
            raise error

        asked.ask(fail, lambda failure, failed=failed: failed(OneChild(), failure))  # type: ignore[misc]
        replies: list[Reply] = []
        until(lambda replies=replies: replies.extend(asked.replies()) or replies)  # type: ignore[misc]
        assert (replies[0].child, replies[0].event) == (7, event)
        assert replies[0].cause is not None
        assert (error.message if isinstance(error, LauncherError) else "ZeroDivisionError") in replies[
            0
        ].cause.sentence


def test_a_word_of_a_command_line_begins_no_setting_of_a_unit() -> None:
    unit = systemd_unit(an_export("-a", "x\nExecStartPre=/bin/sh -c id\n\x1b[2J"))
    assert "\nExecStartPre" not in unit
    assert r'"x\x0aExecStartPre=/bin/sh -c id\x0a\x1b[2J"' in unit
    assert "\x1b" not in compose_file(an_export("-a", "\x1b\x85\n"), "image")
