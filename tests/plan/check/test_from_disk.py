"""A line of a model beyond RAM: what `plan --from-disk` promises of it, and only on request."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.engine.flags.argv import server_argv
from launcher.engine.flags.command_line import read_command
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST
from launcher.plan.check.check import Check, check_configuration
from launcher.plan.check.pace import forecast_check, stages_of_check
from launcher.plan.oracle import Answer, Question, Refusal
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from launcher.units import MIB
from tests.plan.check.checks import SILENT, Says, has_reason
from tests.plan.check.test_same_ledger import SERVING, parts
from tests.plan.planned import make_plan
from tests.plan.shapes import cards, eight_cores, machine, model

ASKED = Workload(ctx_size=4096, ubatch_size=512, cache_ram_bytes=0, from_disk=True)
FILE = model("qwen3moe")
AMX = replace(eight_cores(), isa=("AVX2", "AVX512_VNNI", "AMX_INT8"))
SMALL = machine(ram_bytes=(512 + 500) * MIB)


def planned(box: Machine) -> Plan:
    plan = make_plan(FILE, "Q4_0", box, ASKED)
    assert isinstance(plan, Plan)
    assert plan.placement.paged_bytes > 0
    return plan


def checked(box: Machine, line: list[str], *, from_disk: bool = True) -> Check:
    configuration = read_command(line).configuration
    return check_configuration(configuration, FILE, box, SILENT, "/m.gguf", from_disk=from_disk)


@pytest.mark.parametrize(
    "box",
    [SMALL, machine(*cards(400), ram_bytes=(512 + 500) * MIB), replace(SMALL, cpu=AMX)],
    ids=["host", "card", "amx"],
)
def test_the_line_of_such_a_plan_is_what_it_is_checked_as(box: Machine) -> None:
    plan = planned(box)
    found = checked(box, list(server_argv(plan, SERVING)))
    assert found.fits
    assert found.paged_bytes == plan.placement.paged_bytes
    assert parts(found.ledger) == parts(plan.ledger)
    assert has_reason(found, "they are read from the file as they are used")
    stages = stages_of_check(found, FILE, box, threads=plan.threads)
    forecast = forecast_check(found, box, stages)
    assert forecast is not None
    assert plan.forecast is not None
    assert forecast.decode.mid == pytest.approx(plan.forecast.decode.mid, rel=0.01)
    assert forecast.assumptions[-1] == plan.forecast.assumptions[-1]


def test_nobody_gets_it_unasked() -> None:
    found = checked(SMALL, list(server_argv(planned(SMALL), SERVING)), from_disk=False)
    assert [failure.where for failure in found.failures] == [HOST]
    assert "launcher check --from-disk" in found.reasons[0]


@pytest.mark.parametrize("other", ["--repack", "--no-mmap", "--mlock", "-lm none"])
def test_what_is_not_read_as_it_lies_in_the_file_has_to_fit(other: str) -> None:
    line = [*server_argv(planned(SMALL), SERVING), *other.split()]
    found = checked(SMALL, line)
    assert not found.fits
    assert "--from-disk" not in found.reasons[0]


def test_a_host_that_repacks_nothing_needs_no_other_layout() -> None:
    """AMX lays weights out anew where the CPU computes alone; -nr leaves them as they are in the file."""
    box = machine(cpu=AMX)
    plain, kept = (
        checked(box, ["llama-server", "-c", "4096", "-cram", "0", *flags]) for flags in ([], ["-nr"])
    )
    assert kept.ledger[-1].weights.n_bytes < plain.ledger[-1].weights.n_bytes


def short_of(missing_mib: int, flags: str, *, gpu: bool) -> Check:
    """The verdict on a line with all experts on a host that lacks so much RAM."""
    line = [
        "llama-server",
        *["-c", "4096", "-np", "1", "-cram", "0", "-ctxcp", "0", "-cmoe", "--fit", "off"],
        *flags.split(),
    ]
    box = machine(*cards(*[2000] * gpu))
    ram = 512 * MIB + checked(box, line).ledger[-1].used_bytes - missing_mib * MIB
    return checked(replace(box, ram_total_bytes=ram, ram_available_bytes=ram), line)


@pytest.mark.parametrize(
    ("flags", "gpu", "is_mapped"),
    [
        ("", True, True),  # the usual line: mapped by default, and no layout of the CPU's beside a card
        ("", False, False),  # the CPU alone repacks Q4_0
        ("-nr", False, True),
        ("--no-host", True, False),
        ("--no-host -nr", True, True),
        ("-lm none", True, False),
        ("-lm mmap+mlock", True, False),
    ],
)
def test_a_line_s_experts_are_pages_where_nothing_copies_or_locks_them(
    flags: str, gpu: bool, is_mapped: bool
) -> None:
    found = short_of(50, flags, gpu=gpu)
    assert found.fits == is_mapped
    assert found.paged_bytes == 50 * MIB * is_mapped


def test_what_is_no_expert_needs_ram() -> None:
    experts = short_of(0, "", gpu=True).assignment.share(HOST).expert_bytes // MIB
    assert short_of(experts, "", gpu=True).fits
    assert not short_of(experts + 1, "", gpu=True).fits


class Finds(Says):
    """A simulator that finds the host's weights in buffers of this type."""

    def __init__(self, buffer_type: str) -> None:
        super().__init__({HOST: 1000})
        self._type = buffer_type

    def simulate(self, question: Question) -> Answer | Refusal:
        answer = super().simulate(question)
        assert isinstance(answer, Answer)
        return replace(answer, rows=tuple(replace(row, buffer_type=self._type) for row in answer.rows))


@pytest.mark.parametrize(
    ("buffer_type", "fits"), [("CPU_Mapped", True), ("CPU_REPACK", False), ("AMX", False)]
)
def test_what_the_simulator_finds_repacked_is_no_page(buffer_type: str, fits: bool) -> None:
    configuration = read_command(
        ["llama-server", "-c", "4096", "-cram", "0", "-nr", "--fit", "off"]
    ).configuration
    used = (
        check_configuration(configuration, FILE, machine(), Finds(buffer_type), "/m.gguf")
        .ledger[-1]
        .used_bytes
    )
    box = machine(ram_bytes=512 * MIB + used - 50 * MIB)
    found = check_configuration(configuration, FILE, box, Finds(buffer_type), "/m.gguf", from_disk=True)
    assert found.fits == fits
