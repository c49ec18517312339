"""One model on several machines: replicas, a split that a real head loads as planned, or what is missing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.commands.here import here_with
from launcher.commands.plan import plan
from launcher.commands.plan_fleet import FleetPlan, fleet_document, plan_fleet
from launcher.commands.planned import PlanRequest
from launcher.commands.probe import MachineChoice
from launcher.engine.find import Engine
from launcher.engine.log.load_log import parse_load_log
from launcher.errors import UsageError
from launcher.machine.fleet import fleet_of_refs
from launcher.machine.machine import Backend
from launcher.plan.amounts import HOST
from launcher.plan.modes import CacheType
from launcher.plan.placement.group.values import Split
from launcher.plan.plan import Finding, Plan
from launcher.plan.workload import Limits, Workload
from launcher.units import MIB
from tests.cli.shell import launcher
from tests.make_gguf import make_gguf
from tests.plan.test_real_load import load
from tests.simulate.rpc_peers import rpc_peers

_LOGGED_MIB = 0.01
BOX = """
[ram]
total = "{ram}"
available = "{ram}"

[[device]]
backend = "cuda"
name = "card"
total = "{card}"
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf(tmp_path_factory.mktemp("cluster") / "qwen3moe.gguf", "qwen3moe", hollow=True)[0]


def box(folder: Path, name: str, ram: str, card: str | None = None) -> str:
    text = BOX.format(ram=ram, card=card)
    path = folder / f"{name}.toml"
    path.write_text(text if card else text.partition("[[device]]")[0])
    return str(path)


def request(model: Path, engine: Engine) -> PlanRequest:
    return PlanRequest(
        ref=str(model), engine=engine.path, workload=Workload(ctx_size=2048, cache_ram_bytes=0)
    )


def planned(fleet: FleetPlan) -> Plan:
    assert fleet.planned is not None
    assert fleet.planned.plan is not None
    return fleet.planned.plan


@pytest.mark.engine
def test_every_machine_that_holds_it_has_a_replica(engine: Engine, model: Path, tmp_path: Path) -> None:
    large, small = box(tmp_path, "large", "8 GiB", "4 GiB"), box(tmp_path, "small", "700 MiB")

    fleet = plan_fleet(here_with(), request(model, engine), fleet_of_refs([large, small, large]))

    assert fleet.machines == ("large-1", "large-2")
    assert fleet.finding is Finding.FITS
    document = fleet_document(fleet)
    assert [each["machine"] for each in document["replicas"]] == ["large-1", "large-2"]
    assert document["split"] is None
    assert json.dumps(document)


@pytest.mark.engine
def test_the_quickest_is_another_machine_only_if_it_is_so_clearly(
    engine: Engine, model: Path, tmp_path: Path
) -> None:
    slow, fast = box(tmp_path, "slow", "8 GiB"), box(tmp_path, "fast", "8 GiB", "4 GiB")

    def quickest(*machines: str) -> str:
        return plan_fleet(here_with(), request(model, engine), fleet_of_refs(machines)).quickest

    assert quickest(slow, fast) == "fast"
    assert quickest(fast, slow) == "fast"
    assert quickest(slow, slow) == "slow-1"


@pytest.mark.engine
def test_machines_alike_but_for_what_is_free_are_planned_each(
    engine: Engine, model: Path, tmp_path: Path
) -> None:
    card = '[[device]]\nbackend = "cuda"\nname = "card"\ntotal = "8 GiB"\nfree = "{}"\n'
    names = []
    for name, free in (("first", ("7 GiB", "600 MiB")), ("second", ("600 MiB", "7 GiB"))):
        file = tmp_path / f"{name}.toml"
        file.write_text('[ram]\ntotal = "8 GiB"\n' + "".join(map(card.format, free)))
        names.append(str(file))

    fleet = plan_fleet(here_with(), request(model, engine), fleet_of_refs(names))

    plans = [fleet.whole(name).plan for name in fleet.machines]
    assert [plan.placement.devices for plan in plans if plan] == [("CUDA0",), ("CUDA1",)]
    assert [placed.seats[0].devices for placed in fleet.layout.placed] == [(0,), (1,)]


@pytest.mark.engine
def test_a_split_loads_as_it_was_planned(engine: Engine, model: Path, tmp_path: Path) -> None:
    same = box(tmp_path, "same", "1800 MiB")
    f16 = {"cache_type_k": CacheType.F16, "cache_type_v": CacheType.F16}
    workload = Workload(ctx_size=32768, n_parallel=4, cache_ram_bytes=0, ubatch_size=512, **f16)
    wanted = replace(request(model, engine), workload=workload)

    fleet = plan_fleet(here_with(), wanted, fleet_of_refs([same] * 4))

    assert fleet.finding is Finding.FITS
    assert fleet.planned is not None
    assert "--rpc" in fleet.planned.argv
    argv = list(fleet.planned.argv)
    assert argv.index("--rpc") < argv.index("-dev")
    (placed,) = fleet.layout.placed
    assert isinstance(placed.plan, Split)
    assert len(placed.seats) == len(fleet.split)
    with rpc_peers(engine.folder, [Backend.CPU] * (len(fleet.split) - 1)) as peers:
        endpoints = [peer.peer.endpoint for peer in peers if peer.peer]
        argv[argv.index("--rpc") + 1] = ",".join(endpoints)
        argv[argv.index("--port") + 1] = "0"
        argv[argv.index("-m") + 1] = str(model)
        log = load((*argv, "--no-warmup"), {})
    names = {peer.buffer_name: peer.id for peer in peers}
    logged: dict[str, int] = {}
    for buffer in parse_load_log(log):
        if buffer.kind != "output" and not buffer.name.endswith("_Mapped"):
            where = names.get(buffer.name, HOST)
            logged[where] = logged.get(where, 0) + buffer.n_bytes
    for row in planned(fleet).ledger:
        if row.where != HOST:
            ours = row.weights.n_bytes + row.kv.n_bytes + row.compute.n_bytes
            assert abs(ours - logged[row.where]) / MIB <= 3 * _LOGGED_MIB


@pytest.mark.engine
def test_what_is_missing_is_said(engine: Engine, model: Path, tmp_path: Path) -> None:
    tiny = box(tmp_path, "tiny", "700 MiB")

    done = launcher("plan", str(model), "-c", "2048", "--machine", tiny, "--machine", tiny, "--json")

    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    assert document["fits"] is False
    assert document["replicas"] == []
    assert document["shortfall"]["missing_bytes"] > 0


@pytest.mark.engine
def test_more_devices_than_llama_cpp_takes_are_not_split_over(
    engine: Engine, model: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many.toml"
    many.write_text(BOX.format(ram="700 MiB", card="1100 MiB") + "count = 9\n")

    fleet = plan_fleet(here_with(), request(model, engine), fleet_of_refs([str(many), str(many)]))

    assert fleet.finding is Finding.DOES_NOT_FIT
    assert fleet.remarks == ("many-1, many-2 together have more devices than llama.cpp takes (16)",)


def test_gpus_are_those_of_one_machine(tmp_path: Path) -> None:
    wanted = PlanRequest(ref="kimi-k2.5", limits=Limits(gpus=("0",)))

    with pytest.raises(UsageError, match="--gpus"):
        plan_fleet(here_with(offline=True), wanted, fleet_of_refs(["8xh100-80g", "8xh100-80g"]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check", "--machine", "a", "--machine", "b", "--", "llama-server", "-m", "x"), "two machines"),
        (("plan", "x", "--machine", "a", "--machine", "b", "--ram", "8G"), "several machines"),
        (("plan", "x", "--machine", "a", "--machine", "b", "--buy"), "about one machine"),
        (("plan", "x", "--machines", "/nowhere.toml"), "no file"),
    ],
)
def test_what_does_not_go_together_is_refused(words: tuple[str, ...], said: str) -> None:
    done = launcher(*words)

    assert done.returncode in {2, 4}
    assert said in done.stderr
    assert "hint:" in done.stderr


def test_a_machine_with_devices_of_others_is_not_planned_alone(tmp_path: Path) -> None:
    head = tmp_path / "head.toml"
    head.write_text(BOX.format(ram="8 GiB", card="4 GiB") + 'rpc = "10.0.0.2:50052"\n')
    request_for_it = PlanRequest(ref="kimi-k2.5", machine=MachineChoice(name=str(head)))

    with pytest.raises(UsageError, match="devices behind RPC"):
        plan(here_with(offline=True), request_for_it)
    with pytest.raises(UsageError, match="devices behind RPC"):
        plan_fleet(here_with(offline=True), request_for_it, fleet_of_refs([str(head), "laptop-16g"]))
