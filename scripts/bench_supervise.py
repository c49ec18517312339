"""What supervision costs, and that it cleans up: added start time, memory, idle CPU, and cycles of violence.

scripts/bench supervise [start | idle | cycles [N [real]] | all]

start, idle: the engine built here and the default model, else the fake engine. cycles: 200 of the fake engine
unless `real` is said.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402  after the path

from launcher.deployment import claims  # noqa: E402
from launcher.deployment.deploy import bring_up  # noqa: E402
from launcher.deployment.identity import lives  # noqa: E402
from launcher.deployment.ports import free_port  # noqa: E402
from launcher.deployment.process import MARKER  # noqa: E402
from launcher.deployment.record import Deployment  # noqa: E402
from launcher.deployment.records import find_record, hold_start_if_free, read_all, state_path  # noqa: E402
from launcher.deployment.status import DeploymentState, read_status  # noqa: E402
from launcher.deployment.supervisor.protect import left_groups  # noqa: E402
from launcher.deployment.takedown import take_down, tidy  # noqa: E402
from launcher.engine.find import read_engines  # noqa: E402
from launcher.errors import LauncherError  # noqa: E402
from launcher.system.settings import read_settings  # noqa: E402
from scripts.processes import cpu_s, first_token_s, resident_mib  # noqa: E402
from tests.serving import SMALL, a_request, fake_command, stub_model  # noqa: E402

_STARTS = 7
_IDLE_S = 60.0
_PATIENCE_S = 60.0


def main(arguments: list[str]) -> int:
    part = arguments[0] if arguments else "all"
    if part not in {"start", "idle", "cycles", "all"}:
        print(__doc__)
        return 2
    n_cycles = int(arguments[1]) if len(arguments) > 1 else 200
    on_real = arguments[2:] == ["real"]
    command, model = _engine()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "deployments"
        folder.mkdir(mode=0o700)
        real = model is not None
        model = model or stub_model(Path(place))
        if part != "cycles" or on_real:
            print(f"engine: {command[0] if real else 'the fake one'}")
        if part in {"start", "all"}:
            _start(folder, command, model)
        if part in {"idle", "all"}:
            _idle(folder, command, model)
        if part in {"cycles", "all"}:
            if not on_real:
                command, model = fake_command("--load-seconds", "0.2"), stub_model(Path(place))
            wrong = _cycles(folder, command, model, n_cycles)
    return 1 if wrong else 0


def _start(folder: Path, command: tuple[str, ...], model: Path) -> None:
    """In turns, so that a busy machine slows both."""
    by_hand, ours = [], []
    for _ in range(_STARTS):
        by_hand.append(_by_hand(command, model))
        ours.append(_supervised(folder, command, model))
    hand, kept = statistics.median(by_hand), statistics.median(ours)
    print(
        f"to the first token, median of {_STARTS} in turns: {hand:.2f} s by hand ({_spread(by_hand)}), "
        f"{kept:.2f} s supervised ({_spread(ours)}), {kept - hand:+.2f} s"
    )


def _spread(seconds: list[float]) -> str:
    return f"{min(seconds):.2f} to {max(seconds):.2f}"


def _cycles(folder: Path, command: tuple[str, ...], model: Path, count: int) -> list[str]:
    began = time.monotonic()
    wrong = cycles(folder, command, model, count, seed=1)
    print(
        f"{count} cycles of start, kill -9 and stop in {time.monotonic() - began:.0f} s: {len(wrong)} left something"
        + "".join(f"\n  {w}" for w in wrong)
    )
    return wrong


def cycles(folder: Path, command: tuple[str, ...], model: Path, count: int, *, seed: int) -> list[str]:
    """Start, kill -9 server, supervisor or nothing at a random moment, stop; tell what is left after each."""
    chance = random.Random(seed)
    wrong: list[str] = []
    for number in range(count):
        victim = chance.choice(["server", "supervisor", "launcher", "nobody"])
        found = _cycle(folder, command, model, victim, chance)
        wrong += [f"cycle {number} ({victim}): {what}" for what in found]
        if (number + 1) % 20 == 0:
            print(f"  {number + 1} cycles, {len(wrong)} wrong", file=sys.stderr, flush=True)
    return wrong


def _cycle(
    folder: Path, command: tuple[str, ...], model: Path, victim: str, chance: random.Random
) -> list[str]:
    wrong: list[str] = []
    launcher = _launch(folder, command, model)
    time.sleep(chance.uniform(0.0, 1.2))
    entry = find_record(folder, "m")
    pid = _pid_of(victim, entry, launcher)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
    time.sleep(chance.uniform(0.0, 0.3))
    wrong += _wrong_state(folder)
    try:
        take_down(folder, "m", grace_s=chance.choice([0.0, 0.2, 10.0]))
    except LauncherError as error:
        if error.code != "not_found":
            wrong.append(error.message)
    try:
        launcher.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        launcher.kill()
        launcher.wait()
        wrong.append(f"the launcher did not end within {_PATIENCE_S:.0f} s of the stop")
    # a launcher that was between claiming and starting when we stopped may have gone on: stop what it left
    if read_all(folder):
        take_down(folder, "m", grace_s=0.2)
    tidy(folder)
    return wrong + leftovers(folder, entry.port if isinstance(entry, Deployment) else None)


def _wrong_state(folder: Path) -> list[str]:
    """Check that a deployment said to be gone or failed has no process any more."""
    entry = find_record(folder, "m")
    if not isinstance(entry, Deployment) or read_status(entry).state not in {
        DeploymentState.GONE,
        DeploymentState.FAILED,
    }:
        return []
    deadline = time.monotonic() + _PATIENCE_S
    while entry.pid is not None and lives(entry.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    same = entry.pid is not None and lives(entry.pid)
    return [f"said to be {read_status(entry).state}, and pid {entry.pid} lives"] if same else []


def leftovers(folder: Path, port: int | None) -> list[str]:
    """List processes, records, claims, memory groups, locks and ports that should be gone."""
    marker = str(state_path(folder, "m").absolute())
    left = [f"process {seen.pid} {seen.name()}" for seen in psutil.process_iter() if _carries(seen, marker)]
    left += [
        f"file {path.name}" for path in folder.iterdir() if path.suffix in {".json", ".progress", ".claim"}
    ]
    left += [f"claim of {claim.name}" for claim in claims.read_claims(folder / "claims")]
    left += [f"memory group {path.name}" for path in left_groups()]
    with hold_start_if_free(folder, "m") as free:
        left += [] if free else ["the lock is held"]
    if port is not None and any(
        seen.laddr[1] == port and seen.status == psutil.CONN_LISTEN for seen in psutil.net_connections("tcp")
    ):
        left.append(f"port {port}")
    return left


_LAUNCH = """
import sys
from pathlib import Path
from launcher.deployment.deploy import bring_up
from tests.serving import a_request
folder, model, *command = sys.argv[1:]
notes = {"claim": {"ram": 1 << 30}, "claim_folder": folder + "/claims"}
bring_up(Path(folder), a_request("m", command, Path(model), keep_up=True, memory_bytes=4 << 30, **notes))
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
        built for built in read_engines(settings.engines_dir) if built.build and built.build.backend == "cpu"
    ]
    models = sorted(settings.models_dir.rglob("SmolLM2-135M-Instruct.Q4_1.gguf"))
    if engines and models:
        return (str(engines[0].path), *SMALL), models[0]
    return fake_command(), None


def _by_hand(command: tuple[str, ...], model: Path) -> float:
    port = free_port("127.0.0.1")
    where = ("--host", "127.0.0.1", "--port", str(port))
    return first_token_s([*command, "-m", str(model), *where], f"http://127.0.0.1:{port}")


def _supervised(folder: Path, command: tuple[str, ...], model: Path) -> float:
    began = time.monotonic()
    bring_up(folder, a_request("m", command, model, keep_up=True))
    elapsed = time.monotonic() - began
    take_down(folder, "m")
    return elapsed


def _idle(folder: Path, command: tuple[str, ...], model: Path) -> None:
    deployment = bring_up(folder, a_request("m", command, model, keep_up=True))
    if deployment.supervisor is not None:
        pid = deployment.supervisor.pid
        before = cpu_s(pid)
        time.sleep(_IDLE_S)
        used = cpu_s(pid) - before
        print(
            f"supervisor: {resident_mib(pid):.0f} MiB, {100 * used / _IDLE_S:.3f} % of a CPU over {_IDLE_S:.0f} idle seconds"
        )
    take_down(folder, "m")
