"""A model split over two machines that are one: a real sshd, a real head, a real rank; each is killed once.

Both "machines" are this one, each with a launcher home of its own; ssh leads from one to the other.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from launcher.deployment.cluster.private_socket import new_socket
from launcher.engine.client import generate_token
from launcher.engine.find import Engine
from launcher.errors import LauncherError
from tests.conftest import missing
from tests.deployment.cluster.machines import eventually as wait_for
from tests.deployment.cluster.machines import processes_at, run_launcher

ROOT = Path(__file__).resolve().parents[3]
WAIT_S = 120.0


@dataclass(frozen=True)
class Lab:
    folder: Path
    engine: Engine

    def environment(self, machine: str) -> dict[str, str]:
        return {
            **os.environ,
            "LAUNCHER_HOME": str(self.folder / machine),
            "LAUNCHER_ENGINE": str(self.engine.path),
            "PYTHONPATH": str(ROOT),
        }

    def run(self, machine: str, *words: str) -> Any:
        return run_launcher((sys.executable, "-m", "launcher"), words, self.environment(machine), WAIT_S)

    def processes(self, *marks: str) -> list[psutil.Process]:
        """Those of this lab whose command line has all marks."""
        return processes_at(lambda home: home.startswith(str(self.folder)), marks)


eventually = partial(wait_for, limit_s=WAIT_S)


@pytest.fixture
def lab(tmp_path: Path, engine: Engine) -> Iterator[Lab]:
    sshd, keygen = shutil.which("sshd", path="/usr/sbin:/usr/bin"), shutil.which("ssh-keygen")
    if sshd is None or keygen is None or os.geteuid() != 0:
        pytest.skip("no sshd that this user can start (apt-get install openssh-server, as root)")
    if not (engine.folder / "ggml-rpc-server").exists():
        raise missing("this engine has no ggml-rpc-server")
    for key in ("user", "host"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / key)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host_key = " ".join((tmp_path / "host.pub").read_text().split()[:2])
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (tmp_path / "config").write_text(
        f"Host box\n HostName 127.0.0.1\n Port {port}\n User root\n IdentityFile {tmp_path}/user\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {tmp_path}/known\n"
    )
    (tmp_path / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
        "StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nPasswordAuthentication no\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([sshd, "-f", str(tmp_path / "sshd_config"), "-D", "-E", str(tmp_path / "log")])
    lab = Lab(tmp_path, engine)
    try:
        eventually(
            lambda: "listening" in (tmp_path / "log").read_text() if (tmp_path / "log").exists() else 0
        )
        yield lab
    finally:
        lab.run("head", "stop", "--all")
        server.terminate()
        server.wait()
        for process in lab.processes():
            process.kill()


def add_box(lab: Lab) -> Any:
    words = ["env", *(f"{name}={value}" for name, value in lab.environment("peer").items() if name in _GIVEN)]
    program = shlex.join([*words, sys.executable, "-m", "launcher"])
    return lab.run(
        "head", "cluster", "add", "box", "--launcher", program, "--ssh-config", f"{lab.folder}/config"
    )


_GIVEN = {"LAUNCHER_HOME", "LAUNCHER_ENGINE", "PYTHONPATH"}


@pytest.mark.engine
def test_a_split_survives_the_end_of_each_of_its_parts(lab: Lab, default_model: Path) -> None:
    """The one long test of the room: its start, five kills and its stop, about half a minute."""
    assert add_box(lab)["state"] == "ready"
    # RAM of which neither has enough alone; the split's head has the file mapped, its peer the weights
    limits = ("-c", "2048", "--max-ram", "180M")
    planned = lab.run("head", "plan", str(default_model), "--cluster", *limits)
    limits = limits if planned["split"] else ("-c", "2048", "--max-ram", _between(lab, default_model))

    record = lab.run("head", "up", str(default_model), "--cluster", "--name", "smol", *limits)

    url, argv = record["url"], record["argv"]
    assert "--rpc" in argv
    generate_token(url)
    for marks in (
        "ggml-rpc-server -d",
        "rpc_relay.py",
        "llama-server -m",
        "cluster.run_gang",
        "launcher cluster rank",
    ):
        listening = subprocess.run(["ss", "-ltnp"], capture_output=True, text=True, check=True).stdout
        assert "rpc-server" not in listening  # on no address of this machine, loopback included
        gangs = {each.pid for each in lab.processes("cluster.run_gang")}
        # the newest: a gang's own line, and ssh's, have the words of what they start
        max(lab.processes(marks), key=lambda each: (each.name() in marks, each.pid)).kill()
        eventually(
            lambda gangs=gangs: gangs.isdisjoint(each.pid for each in lab.processes("cluster.run_gang"))
        )
        eventually(lambda: _answers(url))
    assert len(lab.processes("ggml-rpc-server", "-H 127.0.0.1")) == 1
    refused = lab.run("head", "cluster", "leave", "box")
    assert refused["error"]["code"] == "usage"

    lab.run("head", "stop", "smol")

    eventually(lambda: not lab.processes("ggml-rpc-server") and not lab.processes("cluster rank"))
    eventually(lambda: lab.run("peer", "ps") == [])
    assert not list((lab.folder / "peer/state/claims").glob("*.claim"))


def _between(lab: Lab, model: Path) -> str:
    """Return a limit on RAM under which the model does not fit whole, and fits split."""
    whole = lab.run("head", "plan", str(model), "--cluster", "-c", "2048", "--max-ram", "200M")
    short = whole["shortfall"]["missing_bytes"] if whole["shortfall"] else 0
    return f"{(200 << 20) + short + (4 << 20)}B"


def _answers(url: str) -> bool:
    try:
        generate_token(url)
    except LauncherError:
        return False
    return True


@pytest.mark.engine
def test_another_engine_than_the_heads_and_too_many_bytes_are_refused(lab: Lab) -> None:
    words = ("--epoch", "5", "--device", "CPU", "--socket", new_socket())

    for refused, sentence in (
        (("--bytes", "1", "--engine-sha256", "0" * 64), "another than the head's"),
        (("--bytes", str(1 << 49), "--engine-sha256", _sha(lab)), "free, and the rank takes"),
        (("--bytes", "1.5", "--engine-sha256", _sha(lab)), "valid integer"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "launcher", "cluster", "rank", "x.0", *words, *refused],
            env=lab.environment("peer"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode
        assert sentence in done.stdout + done.stderr
    assert not lab.processes("ggml-rpc-server")


def _sha(lab: Lab) -> str:
    return str(lab.run("peer", "cluster", "node")["engine_sha256"])
