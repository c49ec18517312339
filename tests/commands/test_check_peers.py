"""`launcher check` of lines with `--rpc`: against a head with real peers, and where their memory is not known."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from pathlib import Path

import psutil
import pytest

from launcher.engine.find import Engine
from launcher.engine.flags.command_line import read_command
from launcher.machine.machine import Backend
from launcher.machine.peers import parse_peers, seen_by_head
from launcher.models.local import open_path
from launcher.plan.amounts import HOST
from launcher.plan.check.check import Check, check_configuration
from launcher.simulate.client import SimulatorPool
from launcher.units import MIB
from tests.cli.shell import launcher
from tests.make_gguf import make_gguf
from tests.plan.shapes import machine
from tests.plan.test_real_load import load
from tests.simulate.rpc_peers import rpc_peers

_LOGGED_MIB = 0.01
_BUFFER = re.compile(r"(\S+) +(model|KV|compute) buffer size = +([\d.]+) MiB")
_KINDS = {"model": "weights", "KV": "kv", "compute": "compute"}
_EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
LINES = (
    "-c 4096 -np 1",
    "-c 4096 -ts 1,3 -fit off -np 4 -kvu",
    "-c 4096 -ts 1,1 -fit off -cmoe",
    "-c 4096 -dev RPC1 -fit off",
    "-c 4096 -sm none -mg 1 -ngl 3 -fit off",
    f"-c 4096 -ts 1,0 -fit off -ot 'blk\\.[2-5]{_EXPERTS}=SECOND'",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf(tmp_path_factory.mktemp("peers") / "qwen3moe.gguf", "qwen3moe", hollow=True)[0]


@pytest.mark.engine
def test_every_row_is_that_of_the_heads_log(engine: Engine, model: Path) -> None:
    ram = psutil.virtual_memory().total // MIB
    with rpc_peers(engine.folder, [Backend.CPU] * 2) as peers, SimulatorPool(engine.folder) as simulators:
        endpoints = [peer.peer.endpoint for peer in peers if peer.peer]
        memory = [f"{endpoint}=cpu:{ram}M" for endpoint in endpoints]
        for line in LINES:
            words = shlex.split(line.replace("SECOND", peers[1].buffer_name))
            argv = ["-m", str(model), "--rpc", ",".join(endpoints), *words, "-lm", "none"]
            verdict = _examine(argv, memory, simulators)
            log = load((str(engine.path), *argv, "--port", "0", "-lv", "4", "--no-warmup"), {})
            assert not _gaps(verdict, log, [peer.buffer_name for peer in peers]), line


def _examine(argv: list[str], memory: list[str], simulators: SimulatorPool) -> Check:
    command = read_command(["llama-server", *argv])
    assert command.refused == ()
    box = machine(*seen_by_head(parse_peers(memory), command.configuration.rpc))
    path = argv[1]
    return check_configuration(command.configuration, open_path(Path(path)).model, box, simulators, path)


def _gaps(verdict: Check, log: str, names: list[str]) -> dict[tuple[str, str], tuple[float, float]]:
    logged: dict[tuple[str, str], float] = defaultdict(float)
    # what --fit has tried comes before
    for name, kind, mib in _BUFFER.findall(log):
        where = f"RPC{names.index(name)}" if name in names else HOST
        logged[where, _KINDS[kind]] += float(mib)
    ours = {
        (row.where, kind): amount.n_bytes / MIB
        for row in verdict.ledger
        for kind, amount in (("weights", row.weights), ("kv", row.kv), ("compute", row.compute))
        if amount.n_bytes
    }
    assert len(ours) >= 4
    return {
        key: (ours.get(key, 0.0), logged.get(key, 0.0))
        for key in ours.keys() | logged.keys()
        if abs(ours.get(key, 0.0) - logged.get(key, 0.0)) > _LOGGED_MIB * 3  # buffers of the host are three
    }


@pytest.mark.engine
@pytest.mark.parametrize(
    ("options", "flags", "said"),
    [
        ((), "", "what memory that peer has is not known"),
        (("--peer", "10.0.0.2:50052=3090"), "-sm tensor", "over --rpc is not planned"),
    ],
)
def test_what_is_not_known_or_not_planned_is_refused(
    options: tuple[str, ...], flags: str, said: str, model: Path
) -> None:
    line = ["llama-server", "-m", str(model), "--rpc", "10.0.0.2:50052", *flags.split()]

    done = launcher("check", "--ram", "64G", *options, "--", *line)

    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert "hint:" in done.stderr


@pytest.mark.engine
def test_a_peer_that_is_too_small_is_named_with_what_it_lacks(model: Path) -> None:
    line = [
        "llama-server",
        "-m",
        str(model),
        "--rpc",
        "10.0.0.2:50052",
        "-c",
        "4096",
        "-fit",
        "off",
        "-ngl",
        "99",
    ]

    done = launcher("check", "--ram", "64G", "--peer", "10.0.0.2:50052=cuda:1G", "--", *line)

    assert done.returncode == 3, done.stderr
    assert "RPC0 is" in done.stdout
    assert "short" in done.stdout


@pytest.mark.engine
def test_a_line_with_the_device_before_its_peer_is_put_in_order(model: Path) -> None:
    line = ["llama-server", "-m", str(model), "-dev", "RPC0", "--rpc", "10.0.0.2:50052", "-c", "4096"]

    done = launcher("check", "--ram", "64G", "--peer", "10.0.0.2:50052=3090", "--", *line)

    assert done.returncode == 3
    assert "comes before --rpc" in done.stdout
    assert re.search(r"llama-server --rpc 10\.0\.0\.2:50052 .*-dev RPC0", done.stdout.replace("\\\n", ""))
