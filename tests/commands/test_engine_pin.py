"""The engine that a model is to run with: by the command, by config.toml, by its profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.commands.engine_choice import remove
from launcher.commands.engine_pin import describe_pin, pins_of, with_pin
from launcher.commands.here import Here, here_with
from launcher.commands.inspect import inspect
from launcher.commands.planned import PlanRequest
from launcher.engine.find import engine_named
from launcher.errors import NotFound, UsageError
from launcher.system.settings import profiles_dir
from tests.commands.test_engine_choice import put


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Here:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    return here_with()


def pinned(here: Here, ref: str, engine: Path | None = None) -> PlanRequest:
    fresh = here_with()  # reads profiles and config.toml anew
    return with_pin(fresh, PlanRequest(ref=ref, engine=engine), inspect(fresh, ref))


def write_config(here: Here, text: str) -> None:
    here.settings.config_file.parent.mkdir(parents=True, exist_ok=True)
    here.settings.config_file.write_text(text)


def write_profile(here: Here, engine: str) -> None:
    text = (profiles_dir() / "models/smollm2-135m.toml").read_text(encoding="utf-8")
    lines = ["schema = 5" if line.startswith("schema") else line for line in text.splitlines()]
    own = here.settings.own_profiles_dir / "models/smollm2-135m.toml"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("\n".join([f'engine = "{engine}"', *lines]), encoding="utf-8")


def test_the_command_wins_over_config_and_that_over_the_profile(here: Here) -> None:
    assert pinned(here, "smollm2-135m").engine is None
    ik, fork = put(here, "ik_llama.cpp-cpu-aa"), put(here, "fork-cpu-bb")
    write_profile(here, "ik_llama.cpp")
    by_profile = pinned(here, "smollm2-135m")
    assert by_profile.engine == ik / "llama-server"
    assert by_profile.pinned_by == "as the profile smollm2-135m says"
    write_config(here, '[models.small]\nref = "smollm2-135m"\nengine = "fork"\n')
    by_config = pinned(here, "smollm2-135m")
    assert by_config.engine == fork / "llama-server"
    assert by_config.pinned_by == "as [models.small] of config.toml says"
    named = pinned(here, "smollm2-135m", Path("ik"))
    assert (named.engine, named.pinned_by) == (Path("ik"), "as --engine says")
    engine = engine_named(here.settings.engines_dir, "fork")
    assert describe_pin(engine, by_config.pinned_by) == (
        "engine fork-cpu-bb, as [models.small] of config.toml says",
    )
    assert describe_pin(engine, None) == ()


def test_an_engine_that_is_not_here_is_named_with_who_wants_it(here: Here) -> None:
    write_config(here, '[models.smollm2-135m]\nengine = "ik"\n')
    with pytest.raises(
        NotFound, match=r"\[models.smollm2-135m\] of config.toml wants the engine ik"
    ) as caught:
        pinned(here, "smollm2-135m")
    assert caught.value.hint == "launcher engine list"
    write_config(here, "[models.smollm2-135m]\nengine = 3\n")
    with pytest.raises(UsageError, match="engine"):
        pinned(here, "smollm2-135m")


def test_an_engine_that_a_model_is_pinned_to_is_not_removed(here: Here) -> None:
    put(here, "ik_llama.cpp-cpu-aa")
    write_config(here, '[models.small]\nref = "smollm2-135m"\nengine = "ik"\n')
    with pytest.raises(UsageError, match=r"config.toml wants ik_llama.cpp-cpu-aa for smollm2-135m"):
        remove(here, "ik_llama.cpp-cpu-aa")
    other = put(here, "ik_llama.cpp-cpu-bb")  # the pin names either
    engine = engine_named(here.settings.engines_dir, "ik_llama.cpp-cpu-bb")
    assert engine is not None
    assert pins_of(here, engine) == ()
    assert remove(here, "ik_llama.cpp-cpu-bb").folder == other
