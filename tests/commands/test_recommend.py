"""What is recommended: by published quality, by what fits, and never without a source."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.commands.claims import unreserved_machine
from launcher.commands.here import here_with
from launcher.commands.probe import MachineChoice
from launcher.commands.recommend import (
    BENCHMARKS,
    COMFORTABLE_TPS,
    READERS,
    best_quant,
    document,
    known_models,
    pick_purpose,
    rank,
    recommend,
)
from launcher.errors import NotFound, UsageError
from launcher.models.profiles.made_headers import make_headers
from launcher.models.profiles.profile import Purpose
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.plan.workload import Workload
from launcher.units import GIB

GAMER = MachineChoice(gpus=("3090",), ram_bytes=64 * GIB)
LAPTOP = MachineChoice(ram_bytes=16 * GIB)
TINY = MachineChoice(ram_bytes=1 * GIB)


@pytest.fixture
def here():
    return here_with(offline=True)


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize("choice", [GAMER, LAPTOP], ids=["3090", "laptop"])
def test_rows_are_of_the_purpose_ordered_and_small_enough(here, purpose, choice):
    found = recommend(here, choice, purpose, 5)
    assert 0 < len(found.rows) <= 5
    memory = choice.ram_bytes + 24 * GIB * len(choice.gpus)
    for row in found.rows:
        assert purpose in row.profile.purposes
        assert row.found.size_bytes < memory
        assert row.score is None or (row.score.benchmark in BENCHMARKS[purpose] and row.score.source)
        assert row.is_slow == (purpose not in READERS and row.found.forecast.decode.mid < COMFORTABLE_TPS)
    slow = [row.is_slow for row in found.rows]
    assert slow == sorted(slow)  # the comfortable ones first


def test_models_are_ordered_by_one_benchmark_and_those_without_come_last(here):
    ranked = rank(here.sources.profiles.usable, Purpose.CODING)
    first = [score.value for _, score in ranked if score and score.benchmark == "SWE-bench Verified"]
    assert len(first) >= 5
    assert first == sorted(first, reverse=True)
    have = [score is not None for _, score in ranked]
    assert have == sorted(have, reverse=True)


@pytest.mark.parametrize("name", ["qwen3-8b", "qwen3.6-35b-a3b", "gpt-oss-120b", "gemma-3-27b", "bge-m3"])
@pytest.mark.parametrize("choice", [GAMER, LAPTOP], ids=["3090", "laptop"])
def test_what_is_said_to_fit_is_what_the_search_finds_to_fit(here, name, choice):
    """The quick look and the planner agree: a yes of the one is a yes of the other, for the same quant."""
    machine = unreserved_machine(here, choice)
    profile = next(profile for profile in here.sources.profiles.usable if profile.name == name)
    found = best_quant(here, profile, machine)
    for quant in profile.quants:
        made = make_headers(profile, quant)
        task = Task(
            machine=machine,
            workload=Workload(embedding="--embeddings" in profile.flags),
            default_ctx=profile.context.default,
        )
        planned = search([Offer(quant=quant.name, model=made[0])], task).plan
        if found is not None and quant.name == found.quant:
            assert planned is not None
        elif found is None:
            assert planned is None


def test_nothing_fits_and_that_is_said(here):
    found = recommend(here, MachineChoice(ram_bytes=600 << 20), Purpose.CODING, 5)
    assert found.rows == ()
    assert "qwen3.8-27b" in found.too_large


def test_the_document_is_plain_values_and_one_command_each(here):
    told = document(recommend(here, GAMER, Purpose.CHAT, 3))
    assert told["estimated"] is True
    assert all(row["command"] == f"launcher up {row['profile']}:{row['quant']}" for row in told["models"])


def test_known_models_by_part_of_a_name_or_purpose(here):
    assert {row.profile.name for row in known_models(here, TINY, "qwen3 embed")} == {
        "qwen3-embedding-0.6b",
        "qwen3-embedding-4b",
        "qwen3-embedding-8b",
    }
    assert [row.profile.name for row in known_models(here, LAPTOP, "rerank")] == ["bge-reranker-v2-m3"]
    assert all(row.found is None for row in known_models(here, TINY, "kimi"))
    with pytest.raises(NotFound) as caught:
        known_models(here, TINY, "qwenn3-8b")
    assert caught.value.hint == "launcher models qwen3-8b"


def test_a_profile_of_the_users_with_a_shape_that_cannot_be_is_no_crash(here):
    profile = next(profile for profile in here.sources.profiles.usable if profile.name == "qwen3-8b")
    broken = replace(profile, architecture=replace(profile.architecture, dimensions=(("blocks", 4),)))
    assert best_quant(here, broken, unreserved_machine(here, GAMER)) is None


def test_a_purpose_that_is_none_is_refused():
    with pytest.raises(UsageError, match="--for 'chess' is none of chat, coding, vision, embedding, rerank"):
        pick_purpose("chess")
