"""What supervision costs, and that it cleans up: added start time, memory, idle CPU, and cycles of violence.

scripts/bench supervise [CYCLES]      default 200; the engine built here and the default model, else the fake engine
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402  after the path

from launcher.engine.deploy import bring_up, take_down  # noqa: E402
from launcher.engine.deployments import find, read_all, state_path  # noqa: E402
from launcher.engine.find import list_engines  # noqa: E402
from launcher.engine.process import MARKER  # noqa: E402
from launcher.engine.record import Deployment  # noqa: E402
from launcher.errors import LauncherError  # noqa: E402
from launcher.settings import read_settings  # noqa: E402
from tests.serving import SMALL, a_request, fake_command, stub_model  # noqa: E402

_STARTS = 5
_IDLE_S = 60.0


def main(arguments: list[str]) -> int:
    n_cycles = int(arguments[0]) if arguments else 200
    command, model = _engine()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "deployments"
        folder.mkdir(mode=0o700)
        real = command[0] != sys.executable
        model = model or stub_model(Path(place))
        print(f"engine: {command[0] if real else 'the fake one'}")
        by_hand = sorted(_by_hand(command, model) for _ in range(_STARTS))[_STARTS // 2]
        ours = sorted(_supervised(folder, command, model) for _ in range(_STARTS))[_STARTS // 2]
        print(
            f"to the first token: {by_hand:.2f} s by hand, {ours:.2f} s supervised, {ours - by_hand:+.2f} s"
        )
        _idle(folder, command, model)
        wrong = cycles(
            folder, fake_command("--load-seconds", "0.2"), stub_model(Path(place)), n_cycles, seed=1
        )
        print(
            f"{n_cycles} cycles of start, kill -9 and stop: {len(wrong)} left something"
            + "".join(f"\n  {w}" for w in wrong)
        )
    return 1 if wrong else 0


def cycles(folder: Path, command: tuple[str, ...], model: Path, count: int, *, seed: int) -> list[str]:
    """Start, then kill -9 the server, the supervisor or nothing at a random moment, then stop; what is left over
    after each, in words."""
    chance = random.Random(seed)
    wrong: list[str] = []
    for number in range(count):
        victim = chance.choice(["server", "supervisor", "launcher", "nobody"])
        launcher = _launch(folder, command, model)
        time.sleep(chance.uniform(0.0, 1.2))
        entry = find(folder, "m")
        pid = _pid_of(victim, entry, launcher)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        time.sleep(chance.uniform(0.0, 0.3))
        try:
            take_down(folder, "m", grace_s=chance.choice([0.0, 0.2, 10.0]))
        except LauncherError as error:
            if error.code != "not_found":
                wrong.append(f"cycle {number} ({victim}): {error.message}")
        launcher.wait(60)
        # a launcher that was between claiming and starting when we stopped may have gone on: stop what it left
        if read_all(folder):
            take_down(folder, "m", grace_s=0.2)
        left = leftovers(folder, entry.port if isinstance(entry, Deployment) else None)
        wrong += [f"cycle {number} ({victim}): {what}" for what in left]
    return wrong


def leftovers(folder: Path, port: int | None) -> list[str]:
    """Processes, records and a port that should be gone."""
    marker = str(state_path(folder, "m").absolute())
    left = [f"process {seen.pid} {seen.name()}" for seen in psutil.process_iter() if _carries(seen, marker)]
    left += [f"file {path.name}" for path in folder.iterdir() if path.suffix in {".json", ".progress"}]
    if port is not None and any(
        seen.laddr[1] == port and seen.status == psutil.CONN_LISTEN for seen in psutil.net_connections("tcp")
    ):
        left.append(f"port {port}")
    return left


_LAUNCH = """
import sys
from pathlib import Path
from launcher.engine.deploy import bring_up
from tests.serving import a_request
folder, model, *command = sys.argv[1:]
bring_up(Path(folder), a_request("m", command, Path(model), keep_up=True))
"""


def _launch(folder: Path, command: tuple[str, ...], model: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, str(folder), str(model), *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _pid_of(victim: str, entry: object, launcher: subprocess.Popen[bytes]) -> int | None:
    if victim == "launcher":
        return launcher.pid
    if not isinstance(entry, Deployment):
        return None
    if victim == "server":
        return entry.pid
    return entry.supervisor.pid if victim == "supervisor" and entry.supervisor is not None else None


def _carries(seen: psutil.Process, marker: str) -> bool:
    try:
        return seen.environ().get(MARKER) == marker and seen.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def _engine() -> tuple[tuple[str, ...], Path | None]:
    settings = read_settings()
    engines = [
        built for built in list_engines(settings.engines_dir) if built.build and built.build.backend == "cpu"
    ]
    models = sorted(settings.models_dir.rglob("SmolLM2-135M-Instruct.Q4_1.gguf"))
    if engines and models:
        return (str(engines[0].path), *SMALL), models[0]
    return fake_command(), None


def _by_hand(command: tuple[str, ...], model: Path) -> float:
    """Start it, ask for one token as `up` does; seconds."""
    from launcher.engine.client import first_token, is_loaded  # noqa: PLC0415  not before the clock is wanted
    from launcher.engine.ports import free_port  # noqa: PLC0415

    port = free_port("127.0.0.1")
    began = time.monotonic()
    argv = [*command, "-m", str(model), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not is_loaded(f"http://127.0.0.1:{port}"):
            time.sleep(0.01)
        first_token(f"http://127.0.0.1:{port}")
        return time.monotonic() - began
    finally:
        server.kill()
        server.wait()


def _supervised(folder: Path, command: tuple[str, ...], model: Path) -> float:
    began = time.monotonic()
    bring_up(folder, a_request("m", command, model, keep_up=True))
    elapsed = time.monotonic() - began
    take_down(folder, "m")
    return elapsed


def _idle(folder: Path, command: tuple[str, ...], model: Path) -> None:
    deployment = bring_up(folder, a_request("m", command, model, keep_up=True))
    if deployment.supervisor is not None:
        supervisor = psutil.Process(deployment.supervisor.pid)
        before = sum(supervisor.cpu_times()[:2])
        time.sleep(_IDLE_S)
        used = sum(supervisor.cpu_times()[:2]) - before
        memory = supervisor.memory_info().rss / (1 << 20)
        print(
            f"supervisor: {memory:.0f} MiB, {100 * used / _IDLE_S:.3f} % of a CPU over {_IDLE_S:.0f} idle seconds"
        )
    take_down(folder, "m")
