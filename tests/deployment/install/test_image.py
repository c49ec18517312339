"""The container image: its two scripts, run by sh as they are; the build itself where a builder is."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.deployment.install.containers import image_of
from tests.deployment.install.test_export import PLAIN

IMAGE = Path(__file__).parents[3] / "scripts/image"


def run(script: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(IMAGE / script), *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_image_is_nobody_s_and_of_the_build_that_exports_name() -> None:
    text = (IMAGE / "Containerfile").read_text()
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE)
    assert f"ARG BASE={image_of(PLAIN)}\n" in text
    for devices in (("CUDA0",), ("Vulkan0",)):  # named as in its head, and as `export` names them
        assert image_of(replace(PLAIN, devices=devices)) in text
    assert "HEALTHCHECK" in text
    for name in ("serve", "healthcheck"):
        assert (IMAGE / name).stat().st_mode & 0o111


def test_a_server_without_a_key_does_not_start(tmp_path: Path) -> None:
    key = tmp_path / "key"
    for content in (None, "", "# none\n\n"):
        if content is not None:
            key.write_text(content)
        done = run("serve", "-m", "m", SERVER="/bin/echo", KEY_FILE=str(key))
        assert (done.returncode, done.stdout) == (78, "")
        assert f"{key} holds no key" in done.stderr
    key.write_text("sk-1\n")
    done = run("serve", "-m", "a b", SERVER="/bin/echo", KEY_FILE=str(key), PORT="81")
    assert done.stdout == f"--host 0.0.0.0 --port 81 --api-key-file {key} -m a b\n"
    done = run("serve", "--api-key-file", str(key), "-m", "m", SERVER="/bin/echo", KEY_FILE="/nowhere")
    assert done.stdout == f"--host 0.0.0.0 --port 8080 --api-key-file {key} -m m\n"
    done = run("serve", "--api-key-file", "/nowhere", SERVER="/bin/echo", KEY_FILE=str(key))
    assert done.returncode == 78


def test_a_load_is_well_while_it_gets_on(tmp_path: Path) -> None:
    """Memory grows, then the process stands still, then it is gone."""
    grows = "import sys; held = []\nfor line in sys.stdin: held.append(bytearray(1 << 24)); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", grows], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        variables = {"SERVER_PID": str(process.pid), "STATE_FILE": str(tmp_path / "state"), "PORT": "1"}
        for _ in range(3):
            process.stdin.write("\n")
            process.stdin.flush()
            process.stdout.readline()
            assert run("healthcheck", **variables).returncode == 0
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        run("healthcheck", **variables)
        assert run("healthcheck", **variables).returncode != 0
        process.kill()
    assert run("healthcheck", **variables).returncode != 0


def test_the_image_is_built(tmp_path: Path) -> None:
    """On an empty base: no registry is asked, and no step of the file needs a program of the base."""
    builder = shutil.which("buildah")
    if builder is None or os.geteuid() != 0:
        pytest.skip("no buildah, or no root to use it without more ado")
    folders = (
        "--root",
        str(tmp_path / "root"),
        "--runroot",
        str(tmp_path / "run"),
        "--storage-driver",
        "vfs",
    )

    def buildah(*words: str) -> str:
        done = subprocess.run(
            [builder, *folders, *words], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    tag = "localhost/launcher-llama-server"
    buildah("build", "--build-arg", "BASE=scratch", "--format", "docker", "-t", tag, str(IMAGE))
    config = json.loads(buildah("inspect", "--type", "image", tag))["Docker"]["config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/launcher/serve"]
    assert config["Healthcheck"]["Test"] == ["CMD", "/launcher/healthcheck"]
    assert config["WorkingDir"] == "/tmp"
    mounted = Path(buildah("mount", buildah("from", tag).strip()).strip())
    for name in ("serve", "healthcheck"):
        assert (mounted / "launcher" / name).stat().st_mode & 0o777 == 0o555
