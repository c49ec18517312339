"""The commands in the order a user types them, against the real engine, as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from launcher.deployment.ports import free_port
from launcher.engine.find import Engine
from launcher.models.store import HubStore
from tests.make_gguf import make_gguf

pytestmark = pytest.mark.engine


class Shell:
    """A user at a prompt: own folders, the engine named once."""

    def __init__(self, engine: Engine, home: Path) -> None:
        self.env = {**os.environ, "LAUNCHER_HOME": str(home), "LAUNCHER_ENGINE": str(engine.path)}

        self.store = HubStore(folder=home / "cache" / "hub")

    def type(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "launcher", *words],
            env=self.env,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def json(self, *words: str) -> Any:
        done = self.type(words[0], "--json", *words[1:])
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)


@pytest.fixture
def shell(engine: Engine, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(engine, tmp_path / "launcher")
    yield shell
    shell.type("stop", "--all")


def test_up_again_run_ps_logs_stop(shell: Shell, default_model: Path) -> None:
    first = shell.json("up", str(default_model), "--name", "small", "-c", "2048")
    assert (first["name"], first["phase"]) == ("small", "ready")
    assert str(default_model.resolve()) in shell.store.used()
    assert shell.json("up", str(default_model), "--name", "small", "-c", "2048") == first

    other = shell.type("up", str(default_model), "--name", "small", "-c", "1024")
    assert other.returncode == 2
    assert other.stderr.splitlines()[-1] == "hint: launcher stop small"

    with urllib.request.urlopen(f"{first['url']}/props") as answer:
        slot = json.load(answer)["default_generation_settings"]["n_ctx"]
    assert slot == first["plan"]["context"]["tokens"] == 2048

    asked = shell.json("run", "small", "Name one colour. Answer with one word.")
    assert asked["answer"].strip()
    piped = shell.type("run", "small", stdin="Say hello.")
    assert (piped.returncode, piped.stdout.strip() != "") == (0, True)
    both = shell.type("run", "small", "Repeat the last word of this:", stdin="The word is pineapple.")
    assert both.returncode == 0

    [listed] = shell.json("ps")
    assert (listed["name"], listed["state"], listed["pid"]) == ("small", "running", first["pid"])
    assert "print_timing" in shell.type("logs", "small", "-n", "500").stdout

    assert shell.type("stop").stdout == "small stopped\n"
    assert not runs(first["pid"])
    assert shell.json("ps") == []
    assert shell.type("stop").returncode == 4


def test_restart_does_what_up_did_also_when_nobody_is_left_to_ask(shell: Shell, default_model: Path) -> None:
    first = shell.json("up", str(default_model), "--name", "m", "-c", "512")
    os.kill(first["supervisor"]["pid"], signal.SIGKILL)
    again = shell.json("restart", "m")
    assert (again["port"], again["argv"], again["options"]) == (
        first["port"],
        first["argv"],
        first["options"],
    )
    assert again["options"]["memory_bytes"] is not None
    assert [entry["outcome"] for entry in shell.json("history", "m")] == ["ready", "ready"]
    assert f"MemoryMax={first['options']['memory_bytes']}\n" in shell.type("export", "systemd", "m").stdout
    done = shell.type("enable", "m", "--now")  # no systemd runs here: said, and nothing is ended
    assert (done.returncode, "systemd does not run here" in done.stderr) == (2, True)
    assert [entry["state"] for entry in shell.json("ps")] == ["running"]


def test_the_plan_that_is_shown_is_the_plan_that_runs(shell: Shell, default_model: Path) -> None:
    argv = shell.json("plan", str(default_model), "-c", "1024", "--cache-ram", "0")["argv"]
    deployment = shell.json("up", str(default_model), "-c", "1024", "--cache-ram", "0")
    assert without_port(argv) == without_port(deployment["argv"])


def test_a_dry_run_shows_the_command_line_that_runs(
    shell: Shell, default_model: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("secret")
    key.chmod(0o600)
    port = str(free_port("127.0.0.1"))
    words = (str(default_model), "-c", "512", "--port", port, "--api-key-file", str(key), "--cache-ram", "0")
    rehearsed = shell.json("up", *words, "--dry-run")["argv"]
    assert shell.json("ps") == []
    assert shell.json("up", *words)["argv"] == rehearsed


def test_three_shards_of_a_mixture_of_experts_are_served(shell: Shell, tmp_path: Path) -> None:
    first, *_ = make_gguf(tmp_path / "moe.gguf", "deepseek2", splits=3)
    deployment = shell.json("up", str(first), "-c", "512", "--", "--no-warmup")
    assert "--no-warmup" in deployment["argv"]
    completion = json.dumps({"prompt": "w1 w2", "n_predict": 2}).encode()
    request = urllib.request.Request(
        f"{deployment['url']}/completion", completion, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["tokens_predicted"] == 2


def test_up_in_the_foreground_stays_and_ends_on_sigterm(shell: Shell, default_model: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "launcher", "up", str(default_model), "-c", "512", "--foreground", "--json"],
        env=shell.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as serving:
        assert serving.stdout is not None
        document = ""
        while not document.endswith("}\n") or document.count("{") != document.count("}"):
            document += serving.stdout.readline()
        pid = json.loads(document)["pid"]
        assert runs(pid)
        serving.send_signal(signal.SIGTERM)
        serving.communicate(timeout=60)
    assert serving.returncode == 0
    assert not runs(pid)
    assert shell.json("ps") == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"GGUF" + bytes(20), "version"), (bytes(range(256)) * 64, "GGUF"), (b"", "empty")],
)
def test_a_file_that_is_no_model(shell: Shell, tmp_path: Path, content: bytes, sentence: str) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(content)
    done = shell.type("up", str(bad))
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in lines[0]
    assert lines[1].startswith("hint: ")
    assert shell.json("ps") == []


def test_a_truncated_model_is_refused_before_anything_starts(
    shell: Shell, default_model: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(default_model.read_bytes()[:-4096])
    done = shell.type("up", str(short))
    assert done.returncode == 2
    assert "truncated" in done.stderr
    assert shell.json("ps") == []


def test_a_port_in_use_and_a_host_without_a_key(shell: Shell, default_model: Path) -> None:
    deployment = shell.json("up", str(default_model), "-c", "512")
    taken = shell.type(
        "up", str(default_model), "-c", "512", "--name", "b", "--port", str(deployment["port"])
    )
    assert taken.returncode == 2
    assert f"port {deployment['port']} is in use" in taken.stderr
    exposed = shell.type("up", str(default_model), "--name", "c", "--host", "0.0.0.0")
    assert exposed.returncode == 2
    assert "no API key" in exposed.stderr


def test_a_machine_too_small_is_exit_3_and_says_where(shell: Shell, default_model: Path) -> None:
    done = shell.type("plan", str(default_model), "--ram", "1G", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["fits"]) == (3, False)
    assert document["shortfall"]["where"] == "host"


def runs(pid: int) -> bool:
    """Tell whether the process runs and is no zombie (containers often have no init to reap it)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def without_port(argv: list[str]) -> list[str]:
    """Everything but the value of --port, which is any free one."""
    at = argv.index("--port")
    return argv[: at + 1] + argv[at + 2 :]
