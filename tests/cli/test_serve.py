"""`launcher serve`, `keys` and `enable --gateway`, as they are typed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from launcher.deployment.ports import free_port
from tests.cli.shell import launcher


def refused(*words: str) -> str:
    done = launcher(*words)
    assert (done.returncode, done.stdout) == (2, ""), done.stdout + done.stderr
    assert "hint: " in done.stderr
    return done.stderr


def test_what_cannot_be_served_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is in use" in refused("serve", "--port", str(port))
    assert "there is no key" in refused("serve", "--host", "0.0.0.0")
    assert "--only names no model" in refused("serve", "--only")
    assert "go together" in refused("serve", "--tls-cert", "x.pem")
    words = ("--tls-cert", "nowhere.pem", "--tls-key", "nowhere.pem")
    assert "nowhere.pem cannot be used for TLS" in refused(
        "serve", "--port", str(free_port("127.0.0.1")), *words
    )


def test_it_answers_until_it_is_asked_to_end(tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    with subprocess.Popen(
        [sys.executable, "-m", "launcher", "serve", "--port", str(port), "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": str(tmp_path)},  # no engine
    ) as serving:
        assert serving.stdout is not None
        document = ""
        while not document.endswith("}\n"):
            document += serving.stdout.readline()
        assert json.loads(document)["openai_url"] == f"http://127.0.0.1:{port}/v1"
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models") as answer:
                    assert json.load(answer)["data"] == []
                    break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        second = launcher("serve", "--port", str(free_port("127.0.0.1")))
        assert "another gateway of this user runs already" in second.stderr
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(60) == 0


def test_keys_are_shown_once() -> None:
    made = json.loads(launcher("keys", "add", "phone", "--models", "a,b", "--json").stdout)
    assert made["key"].startswith("sk-")
    listed = launcher("keys", "ls").stdout
    assert "phone" in listed
    assert "a b" in listed
    assert made["key"] not in listed
    assert launcher("keys", "rm", "phone").stdout == "phone removed\n"
    assert launcher("keys", "rm", "phone").returncode == 4


def test_the_gateway_is_a_unit(clean_environment: Path) -> None:
    done = launcher("enable", "--gateway", "--json")
    assert done.returncode == 0, done.stderr
    unit = Path(json.loads(done.stdout)["path"]).read_text()
    assert f"ExecStart={sys.executable} -P -m launcher serve --progress none\n" in unit
    assert "KillMode=process\n" in unit
    assert f"Environment=LAUNCHER_HOME={os.environ['LAUNCHER_HOME']}\n" in unit
    assert launcher("disable", "gateway").returncode == 0
    assert "name two units" in refused("enable", "m", "--gateway")
