"""What a request's `model` means."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.commands.here import here_with
from launcher.gateway.catalogue import Catalogue, Servable, mode_fields, read_servables
from launcher.gateway.config import GatewayConfig, ModelConfig
from launcher.models.profiles.profile import Mode, Sampling

INSTANT = Mode(
    name="instant",
    sampling=Sampling(temperature=0.6, top_p=0.95),
    reasoning=False,
    chat_template_kwargs=(("thinking", False),),
    source="x",
)
KIMI = Servable(name="kimi-k2.5", ref="kimi-k2.5:TQ1_0", source="profile", modes=(INSTANT,))
HUB = Servable(name="user/Repo-GGUF:Q4_K_M", ref="user/Repo-GGUF:Q4_K_M", source="disk")
CATALOGUE = Catalogue(
    [KIMI, HUB], GatewayConfig(aliases={"gpt-4o": "kimi-k2.5:instant", "gpt-4": "kimi-k2.5"})
)


@pytest.mark.parametrize(
    ("name", "means", "mode"),
    [
        ("kimi-k2.5", KIMI, None),
        ("Kimi-K2.5", KIMI, None),
        ("kimi-k2.5:latest", KIMI, None),
        ("kimi-k2.5:instant", KIMI, INSTANT),
        ("gpt-4", KIMI, None),
        ("gpt-4o", KIMI, INSTANT),
        ("user/repo-gguf:q4_k_m", HUB, None),
        ("repo-gguf-q4_k_m", HUB, None),  # the name of its deployment
    ],
)
def test_a_model_has_several_names(name: str, means: Servable, mode: Mode | None) -> None:
    found = CATALOGUE.find(name)
    assert found is not None
    assert (found.servable, found.mode) == (means, mode)


@pytest.mark.parametrize("name", ["", "kimi", "kimi-k2.5:thinking", "nobody", ":instant", None, "x" * 10_000])
def test_other_names_mean_nothing(name: str | None) -> None:
    assert CATALOGUE.find(name) is None


def test_a_model_that_is_named_by_its_file_has_its_size(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"m-0000{number}-of-00002.gguf").write_bytes(bytes(number))
    refs = {"split": "m-00001-of-00002.gguf", "cut": "m-00001-of-00003.gguf", "gone": "m.gguf"}
    models = {name: ModelConfig(ref=str(tmp_path / file)) for name, file in refs.items()}
    here = here_with()
    found = read_servables(here.settings, here.sources, GatewayConfig(models=models))
    assert {each.name: each.size_bytes for each in found} == {"split": 3, "cut": None, "gone": None}


def test_what_runs_is_served_too_unless_only_these_are() -> None:
    mine = Servable(name="mine", ref="m", source="running")
    replica = Servable(name="kimi-k2.5.1", ref="m", source="running", replica_of=KIMI.key)
    closed = Catalogue([KIMI], GatewayConfig(), is_closed=True).with_running([mine, replica])
    assert (closed.get("mine"), closed.get("kimi-k2.5.1")) == (None, replica)
    assert closed.with_running([mine]).get("mine") is None
    assert Catalogue([KIMI], GatewayConfig()).with_running([mine]).get("mine") is mine


def test_the_default_stands_for_what_is_not_here() -> None:
    catalogue = Catalogue([KIMI, HUB], GatewayConfig(default="kimi-k2.5:instant"))
    for name in (None, "nobody"):
        found = catalogue.find(name)
        assert found is not None
        assert (found.servable, found.mode) == (KIMI, INSTANT)


def test_the_only_model_needs_no_name() -> None:
    found = Catalogue([KIMI], GatewayConfig()).find(None)
    assert found is not None
    assert found.servable == KIMI


def test_a_mode_is_said_in_a_requests_own_fields() -> None:
    assert mode_fields(INSTANT) == {
        "temperature": 0.6,
        "top_p": 0.95,
        "chat_template_kwargs": {"thinking": False, "enable_thinking": False},
    }
