"""Kimi K2.5 without its files: the shipped recipe gives the published numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.gguf.architecture import read_architecture
from launcher.gguf.header import Header, parse_header
from launcher.models.profiles.from_toml import parse_model_profile
from launcher.models.profiles.made_headers import make_headers
from launcher.models.profiles.profile import ModelProfile
from launcher.plan.amounts import Basis
from launcher.plan.workload import Workload
from launcher.units import GIB
from tests.make_gguf import make_shards
from tests.plan.planned import make_plan
from tests.plan.shapes import machine

PROFILE = Path(__file__).parents[3] / "profiles" / "models" / "kimi-k2.5.toml"


@pytest.fixture(scope="module")
def kimi() -> ModelProfile:
    return parse_model_profile(PROFILE.read_text(), "kimi-k2.5")


def test_the_parameters_are_those_that_were_summed_from_the_release(kimi: ModelProfile) -> None:
    made = make_headers(kimi, kimi.quants[0])
    assert made is not None
    model, _, _ = made
    assert sum(math.prod(tensor.shape) for tensor in model.tensors) == 1_026_408_232_448
    experts = sum(math.prod(tensor.shape) for tensor in model.tensors if "_exps" in tensor.name)
    assert round(experts / 1e9, 3) == 1014.686


def test_q4_x_is_543_617_gib_to_a_hundredth_of_a_percent(kimi: ModelProfile) -> None:
    made = make_headers(kimi, kimi.quants[0])
    assert made is not None
    tensors = sum(tensor.size_bytes for tensor in made[0].tensors)
    assert tensors / GIB == pytest.approx(543.617, rel=1e-4)
    assert made[2].startswith("estimated from published architecture, tensor types as published")


@pytest.mark.parametrize(
    ("name", "total"),
    [("Q2_K_XL", 374_764_330_144), ("TQ1_0", 240_000_000_000), ("Q4_K_XL", 621_997_000_000)],
)
def test_an_assumed_split_meets_the_exact_total(kimi: ModelProfile, name: str, total: int) -> None:
    quant = next(quant for quant in kimi.quants if quant.name == name)
    made = make_headers(kimi, quant)
    assert made is not None
    model, _, said = made
    assert model.size_bytes == total
    in_tensors = sum(tensor.size_bytes for tensor in model.tensors)
    assert 0 <= total - in_tensors < 4 * 2**20  # a header's worth
    assert "assumed" in said


def test_the_architecture_is_the_one_llama_cpp_reads(kimi: ModelProfile) -> None:
    """The same numbers as from a header with the vocabulary in it, whose names and shapes llama.cpp loads."""
    made = make_headers(kimi, kimi.quants[0])
    assert made is not None
    ours = read_architecture(made[0].metadata, made[0].tensors)
    (shard,) = make_shards("deepseek2", preset="kimi-k2.5")
    header = parse_header(shard.header)
    assert isinstance(header, Header)
    assert ours == read_architecture(header.metadata, header.tensors)
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    assert {tensor.name: tensor.shape for tensor in made[0].tensors} == shapes


def test_a_profile_without_an_architecture_has_no_recipe(kimi: ModelProfile) -> None:
    assert make_headers(replace(kimi, architecture=None), kimi.quants[0]) is None


@pytest.mark.parametrize(("name", "basis"), [("TQ1_0", Basis.ESTIMATED), ("INT4", Basis.EXACT)])
def test_weights_of_an_assumed_recipe_are_estimates(kimi: ModelProfile, name: str, basis: Basis) -> None:
    made = make_headers(kimi, next(quant for quant in kimi.quants if quant.name == name))
    assert made is not None
    for ram in (64, 1024):
        outcome = make_plan(made[0], name, machine(ram_bytes=ram * GIB), Workload(ctx_size=4096))
        assert {row.weights.basis for row in outcome.ledger} == {basis}
