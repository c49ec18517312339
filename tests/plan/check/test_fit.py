"""What `--fit` is handed, and the verdict on a line as it leaves it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from launcher.engine.flags.command_line import read_command
from launcher.plan.amounts import HOST
from launcher.plan.check.as_json import check_json
from launcher.plan.check.check import Check, check_configuration
from launcher.plan.check.configuration import WHOLE_CONTEXT
from launcher.plan.check.fit import FitOutcome
from launcher.plan.companions import NO_COMPANIONS, Companions, Projector, ProjectorRequest
from launcher.plan.modes import TensorOverride
from launcher.plan.oracle import (
    BufferRow,
    FitQuestion,
    Fitted,
    ProjectorAnswer,
    ProjectorQuestion,
    Refusal,
)
from launcher.plan.plan import Finding
from launcher.units import GIB, MIB
from tests.plan.check.checks import Says, has_reason
from tests.plan.check.checks import verdict as unfitted
from tests.plan.shapes import cards, machine, model

CARDS = machine(*cards(2000, 2000))
EXPERTS = TensorOverride(pattern=r"blk\.3\.ffn_(up|down|gate_up|gate)_(ch|)exps", where=HOST)
OPEN = Fitted(
    gave_up=False, ctx_size=8192, n_gpu_layers=None, tensor_split=(), overrides=(), engine="llama.cpp test"
)
"""What fit answers about a line that it leaves alone: the context written down."""


@dataclass
class Fits(Says):
    """A simulator whose fit gives one answer; it notes what it was asked."""

    fitted: Fitted | Refusal = OPEN
    asked: list[FitQuestion] = field(default_factory=list)
    _compute: dict[str, int] = field(default_factory=dict)

    def fit(self, question: FitQuestion) -> Fitted | Refusal:
        self.asked.append(question)
        return self.fitted


class Projects:
    """Every projector is 300 MiB on the card that it goes to."""

    def simulate_projector(self, question: ProjectorQuestion) -> ProjectorAnswer | Refusal:
        row = BufferRow(
            where=question.where,
            buffer_type=question.where,
            weights_bytes=200 * MIB,
            kv_bytes=0,
            recurrent_bytes=0,
            compute_bytes=100 * MIB,
            output_bytes=0,
        )
        return ProjectorAnswer(rows=(row,), engine="llama.cpp test")


def verdict(line: str, oracle: Fits, companions: Companions = NO_COMPANIONS) -> Check:
    configuration = read_command([f"llama-server {line}"]).configuration
    return check_configuration(configuration, model(), CARDS, oracle, "m.gguf", companions)


def asked(line: str, companions: Companions = NO_COMPANIONS) -> FitQuestion:
    oracle = Fits()
    verdict(line, oracle, companions)
    (question,) = oracle.asked
    return question


@pytest.mark.parametrize(
    ("line", "ctx_size", "least"),
    [
        ("", 0, 4096),
        ("-fitc 512", 0, 512),
        ("-c 5000", 5000, 4096),
        ("-c 0", 0, WHOLE_CONTEXT),
        ("--kv-unified-per-slot 1000 -np 2", 2000, 4096),
    ],
)
def test_the_context_is_handed_on_as_typed(line: str, ctx_size: int, least: int) -> None:
    question = asked(line)
    assert (question.question.ctx_size, question.least_ctx_size) == (ctx_size, least)


@pytest.mark.parametrize(
    ("flags", "targets"),
    [("", (1024, 1024)), ("-fitt 512", (512, 512)), ("-fitt 1,2", (1, 2)), ("-dev CUDA1 -fitt 7,9", (7,))],
)
def test_targets_are_of_the_devices_in_use(flags: str, targets: tuple[int, ...]) -> None:
    assert asked(flags).targets == tuple(target * MIB for target in targets)


@pytest.mark.parametrize(
    ("flags", "where", "targets"),
    [
        ("", "CUDA1", (1024, 1324)),
        # by its place among all devices, although it is the second of those in use
        ("-dev CUDA1,CUDA0", "CUDA0", (1324, 1024)),
        ("-dev CUDA1", "CUDA1", (1024,)),
    ],
)
def test_a_projector_adds_to_the_target_that_has_its_number(
    flags: str, where: str, targets: tuple[int, ...]
) -> None:
    projector = Projector(
        request=ProjectorRequest(path="mm.gguf", where=where),
        model=model("llama"),
        path="mm.gguf",
        oracle=Projects(),
    )
    assert asked(flags, Companions(projector=projector)).targets == tuple(size * MIB for size in targets)


def test_layers_are_given_by_any_number_and_by_all() -> None:
    assert [asked(flags).layers_given for flags in ("", "-ngl auto", "-ngl all", "-ngl 5")] == [
        False,
        False,
        True,
        True,
    ]


def test_a_process_sees_less_memory_than_the_driver_does() -> None:
    given, seen = CARDS.devices[0].free_bytes, asked("").question.devices[0].free_bytes
    assert given is not None
    assert seen == given - 264 * MIB


def test_the_verdict_is_on_the_line_after_it() -> None:
    fitted = replace(OPEN, ctx_size=4096, n_gpu_layers=9, tensor_split=(4.0, 5.0), overrides=(EXPERTS,))
    found = verdict("", Fits(fitted=fitted))

    assert found.fit.outcome is FitOutcome.CHANGED
    assert (found.pool, found.question.n_gpu_layers, found.question.tensor_split) == (4096, 9, (4.0, 5.0))
    assert found.finding is Finding.FITS
    assert has_reason(
        found, "--fit makes of this line: a context of 4096 tokens, 9 of 13 layers on CUDA0 and"
    )
    assert check_json(found)["fit"] == {
        "outcome": "changed",
        "why": None,
        "context": 4096,
        "n_gpu_layers": 9,
        "tensor_split": [4.0, 5.0],
        "host_expert_blocks": 0,
    }


def test_a_line_that_it_leaves_alone_is_as_typed() -> None:
    found = verdict("", Fits())

    assert found.fit.outcome is FitOutcome.UNCHANGED
    assert found.pool == 8192
    assert not has_reason(found, "--fit")
    assert check_json(found)["fit"]["context"] is None


def test_what_it_shortened_before_it_gave_up_stays_short() -> None:
    found = verdict("-ngl 99", Fits(fitted=replace(OPEN, gave_up=True, ctx_size=4096, n_gpu_layers=99)))

    assert (found.fit.outcome, found.fit.why) == (FitOutcome.GAVE_UP, "-ngl is given")
    assert found.pool == 4096


def test_its_margin_takes_the_place_of_ours() -> None:
    free = CARDS.devices[0].free_bytes
    judged, ours = verdict("", Fits()), verdict("-fit off", Fits())

    assert judged.ledger[0].budget_bytes == free
    assert free is not None
    assert ours.ledger[0].budget_bytes < free


def test_a_target_that_leaves_too_little_for_the_backend_is_a_no() -> None:
    free = CARDS.devices[0].free_bytes
    assert free is not None
    found = verdict("-fitt 0", Fits(_compute={"CUDA0": free // MIB - 30 - 300}))

    assert [failure.missing_bytes for failure in found.failures] == [300 * MIB]
    assert found.finding is Finding.DOES_NOT_FIT
    assert not has_reason(found, "kept free there")


def test_it_is_not_asked_where_it_is_off_or_declines() -> None:
    for line, outcome in (("-fit off", FitOutcome.OFF), ("-sm tensor", FitOutcome.GAVE_UP)):
        oracle = Fits()
        assert verdict(line, oracle).fit.outcome is outcome
        assert oracle.asked == []


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("", Finding.UNVERIFIED),
        ("-c 8192", Finding.UNVERIFIED),
        ("-ngl 99", Finding.UNVERIFIED),
        ("-c 8192 -ngl 99", Finding.DOES_NOT_FIT),
        ("-c 8192 -cmoe", Finding.DOES_NOT_FIT),
        ("-fit off", Finding.DOES_NOT_FIT),
    ],
)
def test_no_is_said_without_it_only_where_it_could_change_nothing(line: str, finding: Finding) -> None:
    found = unfitted(line, machine(*cards(1, 1)))

    assert not found.fits
    assert found.finding is finding


def test_the_hosts_memory_is_not_its_business() -> None:
    fitted = replace(OPEN, n_gpu_layers=0)
    oracle = Fits(fitted=fitted, _compute={HOST: 20 * 1024})
    configuration = read_command(["llama-server"]).configuration
    box = machine(*cards(2000), ram_bytes=16 * GIB)
    found = check_configuration(configuration, model(), box, oracle, "m.gguf")

    assert found.finding is Finding.DOES_NOT_FIT
    assert [failure.where for failure in found.failures] == [HOST]
    assert has_reason(found, "no layer on a device; it takes the host's memory for unlimited")


def test_a_context_that_fit_shortens_before_it_gives_up_is_said_of_a_line_that_fits() -> None:
    """With -ts the layers are left alone; the context is another one than that of the model all the same."""
    fitted = replace(OPEN, gave_up=True, ctx_size=2048)
    found = verdict("-ts 1,1", Fits(fitted=fitted))
    assert found.fits
    assert found.pool == 2048
    sentence = "--fit has shortened the context to 2048 tokens and leaves the layers alone: -ts is given"
    assert has_reason(found, sentence)
