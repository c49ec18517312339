"""Machines that are network namespaces: each with an sshd, an address and a launcher home of its own.

Takes root, iproute2 and sshd. Cables are veth pairs to one bridge: one that is out loses what is sent, silently.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from launcher.engine.client import generate_token
from launcher.engine.find import Engine, find_engine
from launcher.errors import LauncherError
from launcher.machine.machine import Backend
from launcher.system.settings import read_settings
from tests.conftest import DEFAULT_MODEL

ROOT = Path(__file__).resolve().parents[3]
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")
_RUN_S = 180.0
_SSH_PORT = 2222


def why_not() -> str | None:
    """Return why there can be no such machines here."""
    if os.geteuid() != 0 or shutil.which("ip") is None or SSHD is None:
        return "machines in network namespaces take root, iproute2 and openssh-server"
    name = f"lc{os.getpid()}-try"
    if subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode:
        return "no network namespaces are allowed here"
    _ip("netns", "del", name)
    return None


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def eventually(look: Callable[[], object], limit_s: float = _RUN_S) -> float:
    """Wait for it; return the seconds that it took."""
    begin = time.monotonic()
    while not look():
        assert time.monotonic() - begin < limit_s, "it did not come about"
        time.sleep(0.05)
    return time.monotonic() - begin


def run_launcher(program: Sequence[str], words: Sequence[str], env: Mapping[str, str], limit_s: float) -> Any:
    """Run a command of launcher; return its JSON."""
    done = subprocess.run(
        [*program, *words, "--json"], env=env, capture_output=True, text=True, timeout=limit_s, check=False
    )
    return json.loads(done.stdout or "null")


def processes_at(is_home: Callable[[str], bool], marks: Sequence[str]) -> list[psutil.Process]:
    """Return the processes of such a launcher home whose command line has all marks."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        line = " ".join(process.info["cmdline"] or [])
        home = (process.info["environ"] or {}).get("LAUNCHER_HOME", "")
        if is_home(home) and all(mark in line for mark in marks):
            found.append(process)
    return found


def own_engine_and_model(model: Path | None = None) -> tuple[Engine, Path]:
    """Return the CPU engine that was built here, and this model or the default one. Raises LauncherError."""
    settings = read_settings()
    engine = find_engine(None, None, settings.engines_dir, backend=lambda: Backend.CPU)
    return engine, model or next(settings.models_dir.rglob(DEFAULT_MODEL))


@dataclass
class Machine:
    """A machine with a cable, which can be cut, and a power switch."""

    number: int
    folder: Path
    engine: Engine
    sshd: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return "head" if self.number == 0 else f"box{self.number}"

    @property
    def space(self) -> str:
        return f"lc{os.getpid()}-{self.number}"

    @property
    def address(self) -> str:
        return f"10.77.{os.getpid() % 250}.{self.number + 1}"

    @property
    def home(self) -> Path:
        return self.folder / self.name

    @property
    def variables(self) -> dict[str, str]:
        return {
            "LAUNCHER_HOME": str(self.home),
            "LAUNCHER_ENGINE": str(self.engine.path),
            "PYTHONPATH": str(ROOT),
        }

    def argv(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.space, *words]

    def launcher(self, *words: str) -> Any:
        """Run launcher there; return its JSON."""
        program = self.argv(sys.executable, "-m", "launcher")
        return run_launcher(program, words, {**os.environ, **self.variables}, _RUN_S)

    def processes(self, *marks: str) -> list[psutil.Process]:
        """Those of this machine whose command line has all marks."""
        return processes_at(lambda home: home == str(self.home), marks)

    def boot(self) -> None:
        folder = self.folder
        config = folder / f"sshd-{self.number}"
        config.write_text(
            f"ListenAddress {self.address}:{_SSH_PORT}\nHostKey {folder}/host\n"
            f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\nPidFile none\n"
            "PermitRootLogin yes\nPasswordAuthentication no\n"
        )
        assert SSHD is not None
        log = folder / f"sshd-{self.number}.log"
        log.unlink(missing_ok=True)
        self.sshd = subprocess.Popen(self.argv(SSHD, "-f", str(config), "-D", "-E", str(log)))
        eventually(lambda: log.exists() and "listening" in log.read_text())

    def enter(self) -> None:
        """Have this thread use the network of the machine."""
        with Path(f"/run/netns/{self.space}").open("rb") as space:
            assert ctypes.CDLL(None).setns(space.fileno(), 0) == 0

    def cut(self) -> None:
        _ip("-n", self.space, "link", "set", "eth0", "down")

    def heal(self) -> None:
        _ip("-n", self.space, "link", "set", "eth0", "up")

    def lose_power(self) -> None:
        """Go silently: nobody is told, and nothing runs on."""
        self.cut()
        pids = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True, check=True)
        inner = {process.pid for process in self.processes()}  # servers have networks of their own
        for pid in inner | set(map(int, pids.stdout.split())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        if self.sshd is not None:
            self.sshd.wait()

    def power_on(self) -> None:
        self.heal()
        self.boot()


@dataclass
class Lab:
    folder: Path
    engine: Engine
    machines: list[Machine] = field(default_factory=list)

    @property
    def head(self) -> Machine:
        return self.machines[0]

    @property
    def peers(self) -> Sequence[Machine]:
        return self.machines[1:]

    def answers(self, url: str) -> bool:
        """Ask for a token on the head's own machine."""

        def ask() -> bool:
            try:
                generate_token(url)
            except LauncherError:
                return False
            return True

        with ThreadPoolExecutor(1, initializer=self.head.enter) as there:
            return there.submit(ask).result()

    def up(self, model: Path, name: str = "smol") -> str:
        """Start the model, split over the head and one peer; return its URL."""
        limits = ("-c", "2048", "--max-ram")
        words = (str(model), "--cluster", *limits)
        short = self.head.launcher("plan", *words, "180M")
        most = 180 << 20
        if not short["split"]:  # as much as it lacks there, which is less than the whole model takes
            most += short["shortfall"]["missing_bytes"] + (4 << 20)
        return str(self.head.launcher("up", *words, f"{most}B", "--name", name)["url"])

    def log(self, name: str = "smol") -> str:
        return (self.head.home / f"state/deployments/{name}.log").read_text(errors="replace")

    @property
    def config(self) -> Path:
        return self.folder / "config"

    def program(self, machine: Machine, *before: str) -> tuple[str, ...]:
        words = (f"{name}={value}" for name, value in machine.variables.items())
        return ("env", *words, *before, sys.executable, "-m", "launcher")

    def join(self, machine: Machine, *before: str) -> Any:
        program = shlex.join(self.program(machine, *before))
        return self.head.launcher(
            "cluster", "add", machine.name, "--launcher", program, "--ssh-config", str(self.config)
        )

    def by_rank(self) -> Sequence[Machine]:
        """Return the peers, the one that has the rank first: of machines alike either may be chosen."""
        return sorted(self.peers, key=lambda peer: not peer.processes("ggml-rpc-server -d"))

    def servers(self) -> list[psutil.Process]:
        return [each for machine in self.peers for each in machine.processes("-H 127.0.0.1", "ggml-rpc")]


@contextlib.contextmanager
def machines(folder: Path, engine: Engine, n_peers: int) -> Iterator[Lab]:
    """Give a head and so many peers, which it knows by ssh; end all of it afterwards."""
    lab = Lab(folder, engine, [Machine(number, folder, engine) for number in range(n_peers + 1)])
    hub = f"lc{os.getpid()}-hub"
    keygen = shutil.which("ssh-keygen")
    assert keygen is not None
    for key in ("user", "host"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    host_key = " ".join((folder / "host.pub").read_text().split()[:2])
    peers = [(each.name, each.address) for each in lab.peers]
    (folder / "known").write_text("".join(f"[{at}]:{_SSH_PORT} {host_key}\n" for _, at in peers))
    lab.config.write_text(
        "".join(
            f"Host {name}\n HostName {at}\n Port {_SSH_PORT}\n User root\n IdentityFile {folder}/user\n"
            f" IdentitiesOnly yes\n UserKnownHostsFile {folder}/known\n"
            for name, at in peers
        )
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    spaces = []
    try:
        _ip("netns", "add", hub)
        spaces.append(hub)
        _ip("-n", hub, "link", "add", "br0", "type", "bridge")
        _ip("-n", hub, "link", "set", "br0", "up")
        for machine in lab.machines:
            _ip("netns", "add", machine.space)
            spaces.append(machine.space)
            port = f"p{machine.number}"
            _ip("-n", hub, "link", "add", port, "type", "veth", "peer", "eth0", "netns", machine.space)
            _ip("-n", hub, "link", "set", port, "master", "br0", "up")
            _ip("-n", machine.space, "addr", "add", f"{machine.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", machine.space, "link", "set", device, "up")
        for machine in lab.peers:
            machine.boot()
        yield lab
    finally:
        for machine in lab.machines:
            with contextlib.suppress(subprocess.CalledProcessError):
                machine.lose_power()
        for space in spaces:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", space)
