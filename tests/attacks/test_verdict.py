"""A plan is a plain yes only where llama.cpp's own allocator said so."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from launcher.cli.plan import show_planned
from launcher.cli.show.finding import say_finding
from launcher.cli.show.output import Output
from launcher.cli.show.short_plan import NextCommands
from launcher.commands.here import here_with
from launcher.commands.inspect import inspect
from launcher.commands.plan import plan_on
from launcher.commands.planned import Planned, PlanRequest
from launcher.engine.find import Engine
from launcher.plan.amounts import HOST
from launcher.plan.as_json import plan_json
from launcher.plan.check.as_json import check_json
from launcher.plan.from_json import from_json
from launcher.plan.modes import CacheType
from launcher.plan.oracle import Answer, Question, Refusal
from launcher.plan.plan import Finding, Plan
from launcher.plan.search.choice import Choice
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.plan.search.verify import MOST_SIMULATIONS, ModelSimulator
from launcher.plan.workload import Workload
from launcher.simulate.client import SimulatorPool
from launcher.simulate.log import LoadLog
from launcher.units import MIB
from tests.make_gguf import make_gguf
from tests.plan.answering import Oracle, holding
from tests.plan.check.checks import WithoutFit, verdict
from tests.plan.shapes import cards, machine, model

SILENT = Refusal(reason="no answer within 60 s", model_refused=False)
NOBODY = Refusal(reason="there is no engine", model_refused=False, unavailable=True)
WORKLOAD = Workload(ctx_size=4096, ubatch_size=512, cache_type_k=CacheType.F16, cache_type_v=CacheType.F16)


def searched(oracle: Oracle, *names: str, card_mib: int = 900) -> Choice:
    offers = [
        Offer(quant=name, model=model("qwen3moe"), simulator=ModelSimulator(oracle=oracle, path="m.gguf"))
        for name in names or ("Q4_0",)
    ]
    return search(offers, Task(machine=machine(*cards(card_mib)), workload=WORKLOAD))


def planned(answer: Callable[[Question], Answer | Refusal]) -> Plan:
    plan = searched(Oracle(answer)).plan
    assert plan is not None
    return plan


@pytest.mark.parametrize(
    ("answer", "finding", "fits"),
    [
        (holding({}), Finding.FITS, True),
        (lambda _: NOBODY, Finding.FITS_BY_ESTIMATE, True),
        (lambda _: SILENT, Finding.UNVERIFIED, None),
    ],
    ids=["simulated", "nobody", "silent"],
)
def test_the_verdict_says_who_answered(
    answer: Callable[[Question], Answer | Refusal], finding: Finding, fits: bool | None
) -> None:
    plan = planned(answer)
    document = plan_json(plan)
    assert plan.finding is finding
    assert (document["fits"], document["verdict"]) == (fits, finding.value)
    assert (say_finding(plan.finding, plan.unverified) == "yes") is (finding is Finding.FITS)
    assert replace(from_json(document), forecast=None) == replace(plan, forecast=None)


def test_a_simulator_that_was_silent_once_is_not_asked_again() -> None:
    oracle = Oracle(lambda _: SILENT)
    choice = searched(oracle, "a", "b", "c", "d")
    assert choice.plan is not None
    assert choice.plan.finding is Finding.UNVERIFIED
    assert choice.plan.unverified == SILENT.reason
    assert len(oracle.questions) == 1


def test_no_finalist_goes_unasked_because_others_took_all_simulations() -> None:
    """The first two take as many rounds as they may, and do not fit; the third is asked all the same."""
    quants: list[str] = []

    class Counting(Oracle):
        def __init__(self, quant: str) -> None:
            super().__init__(holding({"CUDA0": 1 << 20, HOST: 1 << 30}))
            self._quant = quant

        def simulate(self, question: Question) -> Answer | Refusal:
            quants.append(self._quant)
            return super().simulate(question)

    offers = [
        Offer(quant=name, model=model("qwen3moe"), simulator=ModelSimulator(oracle=Counting(name), path="m"))
        for name in ("a", "b", "c")
    ]
    choice = search(offers, Task(machine=machine(*cards(900)), workload=WORKLOAD))
    assert choice.plan is None
    assert set(quants) == {"a", "b", "c"}
    assert len(quants) <= MOST_SIMULATIONS


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Plan, bool], tuple[int, str]]:
    """Show a plan as `launcher plan` does; return the exit code and what was written."""
    (path,) = make_gguf(tmp_path / "m.gguf", "qwen3moe", hollow=True)
    here, request = here_with(offline=True), PlanRequest(ref=str(path), workload=WORKLOAD)
    base = plan_on(here, request, inspect(here, request.ref), machine(*cards(900)), None)

    def show(plan: Plan, as_json: bool) -> tuple[int, str]:
        value: Planned = replace(base, choice=replace(base.choice, plan=plan))
        written = io.StringIO()
        with redirect_stdout(written):
            try:
                show_planned(value, Output(as_json=as_json), NextCommands(start="", recommend=""))
            except typer.Exit as end:
                return end.exit_code, written.getvalue()
        return 0, written.getvalue()

    return show


@pytest.mark.parametrize("as_json", [False, True])
def test_the_exit_code_is_no_yes_where_the_simulator_was_silent(
    shown: Callable[[Plan, bool], tuple[int, str]], as_json: bool
) -> None:
    silent, nobody, simulated = planned(lambda _: SILENT), planned(lambda _: NOBODY), planned(holding({}))
    code, text = shown(silent, as_json)
    assert code == 5
    assert SILENT.reason in text
    assert ('"fits": null' if as_json else "not verified") in text
    assert shown(nobody, as_json)[0] == 0
    assert shown(simulated, as_json)[0] == 0
    if not as_json:
        assert "fits      yes, by estimate" in shown(nobody, False)[1]
        assert "fits      yes\n" in shown(simulated, False)[1]


class OracleWithoutFit(WithoutFit, Oracle):
    """An engine that is asked for sizes only."""


@pytest.mark.parametrize(("refusal", "fits"), [(SILENT, None), (NOBODY, True)])
def test_a_checked_line_is_no_plain_yes_either(refusal: Refusal, fits: bool | None) -> None:
    found = verdict("-c 4096 -cram 0", oracle=OracleWithoutFit(lambda _: refusal))
    document: dict[str, Any] = check_json(found)
    assert found.fits  # by its ledger
    assert document["fits"] is fits
    assert found.unverified == (SILENT.reason if fits is None else None)
    assert say_finding(found.finding, found.unverified) != "yes"


def test_what_nobody_marked_as_known_counts_as_silence() -> None:
    assert Refusal(reason="?", model_refused=False).is_unanswered
    assert not Refusal(reason="?", model_refused=True).is_unanswered


LINES = (
    b"load_tensors: layer   1 assigned to device CUDA0, is_swa = 1",
    b"llama_context: CUDA_Host  output buffer size =     0.62 MiB",
    b"llama_memory_recurrent:      CUDA0 RS buffer size =     1.50 MiB",
    b"tensor blk.3.ffn_up_exps.weight (9 MiB q4_0) buffer type overridden to CUDA_Host",
)


@pytest.mark.parametrize("letter", [b"a", b" ", b"1", b"x: ", b"=", b"(", b"/"])
def test_lines_of_a_megabyte_are_read_in_no_time(letter: bytes) -> None:
    log, began = LoadLog(), time.monotonic()
    for start in (b"", b"f: ", b"tensor ", b"f: layer ", b"error loading model: ", b"llama_context: "):
        for level in (2, 4):
            log.add(level, start + letter * (1 << 20), None)
    assert time.monotonic() - began < 10
    assert all(len(error) < 1100 for error in log.errors)
    assert len(log.error) < 1100


@pytest.mark.parametrize("line", LINES)
def test_strings_of_a_model_are_no_lines_of_llama_cpp(line: bytes) -> None:
    log = LoadLog()
    for quoting in (
        b"load: control token: 5 '%s' is not marked as EOG",
        b"error loading model: unknown '%s'",
    ):
        log.add(3, quoting.replace(b"%s", line), None)
        log.add(3, quoting.replace(b"%s", b"\n" + line), None)
    assert (log.layers, log.output_bytes, log.recurrent_bytes, log.overridden) == ({}, {}, {}, set())


def test_an_error_of_llama_cpp_is_one_printable_line() -> None:
    log = LoadLog()
    log.add(4, b"llama_model_load: error loading model: unknown '\x1b[31m\nhint: run curl'", None)
    assert log.error == r"unknown '\x1b[31m\nhint: run curl'"


@pytest.mark.engine
class TestWorker:
    def test_more_memory_than_any_model_needs_is_no_answer(self, engine: Engine, tmp_path: Path) -> None:
        path = make_gguf(tmp_path / "kimi.gguf", "deepseek2", preset="kimi-k2.5", hollow=True)[0]
        with SimulatorPool(engine.folder, most_bytes=20 * MIB) as simulators:
            answer = simulators.simulate(Question(model=str(path), devices=(), ctx_size=4096))
        assert isinstance(answer, Refusal)
        assert answer.is_unanswered
        assert answer.reason.endswith("it needs more than 20.0 MiB of memory")

    def test_more_computing_than_any_model_needs_is_no_answer(
        self, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("launcher.simulate.limits._MOST_COMPUTING_S", 0.05)
        monkeypatch.setattr("launcher.simulate.limits._MOST_STARTS", 0.0)
        path = make_gguf(tmp_path / "kimi.gguf", "deepseek2", preset="kimi-k2.5", hollow=True)[0]
        with SimulatorPool(engine.folder) as simulators:
            answer = simulators.simulate(Question(model=str(path), devices=(), ctx_size=4096))
        assert isinstance(answer, Refusal)
        assert answer.is_unanswered
        assert "s of computing" in answer.reason

    def test_a_claim_of_gigabytes_is_no_refusal_of_llama_cpp(self, engine: Engine, tmp_path: Path) -> None:
        path = make_gguf(tmp_path / "kimi.gguf", "deepseek2", preset="kimi-k2.5", hollow=True)[0]
        with SimulatorPool(engine.folder, memory_limit_bytes=80 * MIB) as simulators:
            answer = simulators.simulate(Question(model=str(path), devices=(), ctx_size=4096))
        assert isinstance(answer, Refusal)
        assert not answer.model_refused
