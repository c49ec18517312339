"""From a reference to a plan: quants that cannot be read, too many to read, and plans without the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.commands.here import here_with
from launcher.commands.inspect import inspect
from launcher.commands.offers import MOST_OPENED, worth_opening
from launcher.commands.plan import plan_on
from launcher.commands.planned import Buy, Planned, PlanRequest, document, fitting
from launcher.commands.probe import MachineChoice, probe
from launcher.errors import BadGguf, DoesNotFit, TryAgain, UsageError
from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Machine
from launcher.models.catalogue import Candidate, sources_of
from launcher.models.fetch import fetch
from launcher.models.local import open_path
from launcher.models.located import Located
from launcher.models.profiles.from_toml import parse_model_profile
from launcher.models.saved import save_headers
from launcher.plan.amounts import HOST
from launcher.plan.workload import Workload
from launcher.progress import Step
from launcher.system.settings import Settings, profiles_dir, read_settings
from launcher.units import GIB
from tests.make_gguf import Types, make_gguf
from tests.plan.shapes import cards, machine


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("LAUNCHER_ENGINE", raising=False)
    return read_settings()


def quiet(step: Step) -> None:
    assert step


def planned_on(request: PlanRequest, box: Machine) -> Planned:
    here = here_with(quiet, offline=True)
    return plan_on(here, request, inspect(here, request.ref), box, None)


def offline(settings: Settings, machine_name: str, *, buy: bool = False) -> Planned:
    choice = MachineChoice(name=machine_name)
    how = Buy.SIMULATED if buy else Buy.NOT_ASKED
    request = PlanRequest(ref="kimi-k2.5", workload=Workload(ctx_size=32768), machine=choice, buy=how)
    return planned_on(request, probe(here_with(), choice))


def test_without_the_hub_a_profile_s_recipe_is_planned_and_marked(settings: Settings) -> None:
    planned = offline(settings, "epyc2-768g-5090")
    shown = document(planned)
    assert shown["basis"] == "estimated from published architecture"
    assert shown["model"]["source"].startswith("recipe:kimi-k2.5:")
    assert "estimated from published architecture, tensor types" in shown["reasons"][0]
    assert {one["quant"] for one in shown["alternatives"]} | {shown["quant"]} == {
        "INT4", "Q4_K_XL", "Q2_K_XL", "TQ1_0",
    }  # fmt: skip
    assert shown["forecast"]["turn"]["reply_tokens"] == 512
    _, located = fitting(planned)
    with pytest.raises(TryAgain, match="was not reached"):
        fetch(located, sources_of(settings), quiet)


def test_a_profile_carries_flags_that_the_plan_is_made_around(settings: Settings) -> None:
    text = (profiles_dir() / "models/kimi-k2.5.toml").read_text(encoding="utf-8")
    flags = r'flags = ["-ub", "1024", "-ot", "blk\\.60\\.ffn_up_exps=CUDA0", "--jinja"]'
    own = settings.own_profiles_dir / "models/kimi-k2.5.toml"
    own.parent.mkdir(parents=True)
    own.write_text(text.replace("title = ", f"{flags}\ntitle = ", 1), encoding="utf-8")
    planned = offline(settings, "epyc2-768g-5090")
    assert planned.plan is not None
    assert planned.plan.ubatch_size == 1024
    assert [reason for reason in planned.plan.reasons if reason.startswith("-ot: 1 tensor ")]
    assert planned.argv[planned.argv.index("-ot") + 1].startswith(r"blk\.60\.ffn_up_exps=CUDA0,blk")
    assert planned.argv[-1] == "--jinja"


def test_what_would_do_stands_beside_the_api(settings: Settings) -> None:
    planned = offline(settings, "laptop-16g", buy=True)
    shown = document(planned)
    assert shown["fits"] is False
    assert shown["shortfall"]["where"] == HOST
    assert "$0.6 in and $3 out" in shown["api"]
    assert any("RAM" in one["what"] for one in shown["purchases"])
    with pytest.raises(DoesNotFit, match="of 4 quants the one that lacks least") as caught:
        fitting(planned)
    assert caught.value.exit_code == 3
    assert caught.value.hint == "launcher plan kimi-k2.5 --buy"


def test_saved_headers_beat_the_recipe(settings: Settings, tmp_path: Path) -> None:
    make_gguf(tmp_path / "k.gguf", "deepseek2", preset="kimi-k2.5", hollow=True)
    folder = settings.own_profiles_dir / "headers"
    save_headers(open_path(tmp_path / "k.gguf"), folder / "kimi-k2.5-Q4_X.headers")
    request = PlanRequest(ref="kimi-k2.5:INT4", workload=Workload(ctx_size=32768))
    planned = planned_on(request, probe(here_with(), MachineChoice(name="8xh200-141g")))
    shown = document(planned)
    assert shown["basis"] == "estimated"
    assert shown["reasons"][0].startswith("headers as saved in kimi-k2.5-Q4_X.headers")


def a_candidate(name: str, size: int | None) -> Candidate:
    def never(step: object) -> Located:
        raise AssertionError(step)

    return Candidate(quant=name, size_bytes=size, open=never)


def test_of_many_quants_those_that_could_fit_are_opened() -> None:
    box = machine(*cards(8 * 1024), ram_bytes=16 * GIB)
    many = tuple(a_candidate(f"q{size}", size * GIB) for size in range(40, 0, -2))
    opened = worth_opening(many, box)
    assert len(opened) == MOST_OPENED
    assert opened[0].quant == "q24"
    assert (
        worth_opening(tuple(a_candidate(f"q{size}", size * GIB) for size in range(90, 50, -5)), box)[0].quant
        == "q55"
    )
    assert worth_opening(many[:3], box) == many[:3]


def test_a_file_of_a_fork_s_types_is_refused_by_name(settings: Settings, tmp_path: Path) -> None:
    (path,) = make_gguf(tmp_path / "m.gguf", "qwen3moe", types=Types(expert=GgmlType.Q6_0), hollow=True)
    with pytest.raises(
        BadGguf, match=r"'blk.0.ffn_[a-z]+_exps.weight' is Q6_0, which only ik_llama"
    ) as caught:
        planned_on(PlanRequest(ref=str(path)), machine())
    assert "launcher engine build --source DIR" in str(caught.value.hint)


def test_every_shipped_profile_parses() -> None:
    for path in sorted((profiles_dir() / "models").glob("*.toml")):
        assert parse_model_profile(path.read_text(), path.stem).quants


def test_a_mode_without_a_profile_is_named(settings: Settings, tmp_path: Path) -> None:
    (path,) = make_gguf(tmp_path / "m.gguf", "qwen3moe", hollow=True)
    with pytest.raises(UsageError, match=r"--mode thinking: .* has no profile"):
        planned_on(PlanRequest(ref=str(path), mode="thinking"), machine())
    with pytest.raises(UsageError, match="has no mode 'loud'"):
        planned_on(PlanRequest(ref="kimi-k2.5", mode="loud"), machine())


def test_a_file_is_called_by_its_quant_and_named_as_it_was_typed(settings: Settings, tmp_path: Path) -> None:
    types = Types(expert=GgmlType.Q4_0)
    (path,) = make_gguf(tmp_path / "my model.gguf", "deepseek2", preset="kimi-k2.5", types=types, hollow=True)
    planned = planned_on(PlanRequest(ref=str(path)), machine(ram_bytes=GIB))
    with pytest.raises(DoesNotFit) as caught:
        fitting(planned)
    assert caught.value.message.startswith("my model Q4_0 does not fit: ")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(f"launcher plan '{path}' ")
