"""A whole plan with a projector and a draft model, against the engine that loads it: its log must show the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.commands.companions import find_companions, measure_adapters, open_companions
from launcher.deployment.ports import free_port
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving, server_argv
from launcher.engine.log.load_log import compare_load, parse_load_log
from launcher.errors import NotFound, UsageError
from launcher.machine.machine import Backend, Machine
from launcher.models.catalogue import sources_of
from launcher.models.local import open_path
from launcher.plan.companions import MtpRequest
from launcher.plan.modes import CacheType
from launcher.plan.plan import Plan
from launcher.plan.search.search import plan_one
from launcher.plan.search.task import Offer, Task
from launcher.plan.search.verify import ModelSimulator
from launcher.plan.workload import Workload
from launcher.simulate.simulations import Simulations
from launcher.system.settings import read_settings
from launcher.units import MIB
from tests.make_gguf import make_gguf
from tests.make_projector import make_projector
from tests.plan.shapes import cards, machine
from tests.plan.test_real_load import TWO_GPUS, load

ROUNDING_MIB = 0.1
LOADED = "initializing, n_slots"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beside")
    make_gguf(folder / "model.gguf", "qwen3moe", hollow=True)
    make_gguf(folder / "llama.gguf", "llama", hollow=True)
    make_projector(folder / "mm.gguf", kind="mlp", n_text=1024)
    return folder


def planned_and_loaded(
    engine: Engine, simulating: Engine, folder: Path, box: Machine, flags: tuple[str, ...]
) -> tuple[Plan, dict[str, float]]:
    """The plan, and by how many MiB each of its rows is off."""
    settings = read_settings()
    located = open_path(folder / "model.gguf")
    workload = Workload(ctx_size=4096, n_parallel=2)
    found = find_companions(flags, sources_of(settings))
    with (
        open_companions(found, simulating, settings, box) as companions,
        Simulations(located, simulating, settings, box) as oracle,
    ):
        offer = Offer(
            quant="Q4_0", model=located.model, simulator=ModelSimulator(oracle=oracle, path=oracle.model)
        )
        plan = plan_one(offer, Task(machine=box, workload=workload, companions=companions))
    assert isinstance(plan, Plan), plan.reasons
    serving = Serving(
        host="127.0.0.1", port=free_port("127.0.0.1"), model_id="m", model_path=str(folder / "model.gguf")
    )
    argv = server_argv(
        plan,
        serving,
        program=str(engine.path),
        capabilities=read_capabilities(engine, settings.cache_dir),
        user_flags=flags,
    )
    log = load(argv, TWO_GPUS, LOADED)
    assert LOADED in log, log[-2000:]
    rows = compare_load(plan.ledger, parse_load_log(log))
    return plan, {row.where: (row.planned_bytes - row.logged_bytes) / MIB for row in rows}


def flags_for(folder: Path, *more: str) -> tuple[str, ...]:
    draft, projector = str(folder / "llama.gguf"), str(folder / "mm.gguf")
    return ("--mmproj", projector, "-md", draft, "--spec-type", "draft-simple", *more)


@pytest.mark.engine
def test_a_plan_on_the_host_is_what_the_engine_allocates(engine: Engine, folder: Path) -> None:
    plan, gaps = planned_and_loaded(engine, engine, folder, machine(), flags_for(folder))
    assert [row.where for row in plan.ledger] == ["host"]
    assert not {where: gap for where, gap in gaps.items() if abs(gap) > ROUNDING_MIB}


@pytest.mark.vulkan
@pytest.mark.parametrize(
    ("free_mib", "more", "places"),
    [
        ((900, 800), (), ["Vulkan0", "host"]),
        ((270, 240), (), ["Vulkan0", "Vulkan1", "host"]),
        ((900, 800), ("-mmdev", "Vulkan1", "-devd", "Vulkan1"), ["Vulkan0", "Vulkan1", "host"]),
        ((900, 800), ("--no-mmproj-offload", "-devd", "none"), ["Vulkan0", "host"]),
    ],
)
def test_a_plan_on_software_gpus_is_what_the_engine_allocates(
    free_mib: tuple[int, ...],
    more: tuple[str, ...],
    places: list[str],
    engine: Engine,
    vulkan_engine: Engine,
    folder: Path,
) -> None:
    box = machine(*cards(*free_mib, backend=Backend.VULKAN))
    plan, gaps = planned_and_loaded(vulkan_engine, engine, folder, box, flags_for(folder, *more))
    assert [row.where for row in plan.ledger] == places
    assert not {where: gap for where, gap in gaps.items() if abs(gap) > ROUNDING_MIB}


def test_an_mtp_context_is_asked_for_with_its_caches() -> None:
    flags = ("--spec-type", "draft-mtp", "-ctkd", "q8_0", "--spec-draft-n-max", "5")
    found = find_companions(flags, sources_of(read_settings()))
    assert found.request.mtp == MtpRequest(cache_type_k=CacheType.Q8_0)
    assert (found.request.n_draft, found.request.n_rs_seq, found.notes) == (5, 5, ())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    flags = ("--mmproj", str(tmp_path / "none.gguf"))
    with pytest.raises(NotFound, match="there is no file"):
        find_companions(flags, sources_of(read_settings()))


def test_what_cannot_be_had_is_named_not_counted() -> None:
    flags = ("--mmproj-url", "http://127.0.0.1:9/mm.gguf")
    found = find_companions(flags, sources_of(read_settings()))
    assert found.projector is None
    assert "projector http://127.0.0.1:9/mm.gguf is not in the ledger" in found.notes[0]


def test_a_cache_of_experts_is_counted_whole_on_every_device() -> None:
    [cache] = measure_adapters(("--moe-cache-mib", "2048", "--seed", "1"))
    assert (cache.amount.n_bytes, cache.everywhere) == (2 << 30, True)


@pytest.mark.parametrize("words", [(), ("auto",), ("-1",), ("1" * 30,), ("1", "2")])
def test_a_cache_of_experts_without_a_size_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="no size in MiB"):
        measure_adapters(("--moe-cache-mib", *words))
