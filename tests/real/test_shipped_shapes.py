"""llama.cpp's own loader and allocator take the shapes we ship: one model of every architecture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.models.profiles.folders import read_model_profiles
from launcher.models.profiles.profile import ModelProfile, PublishedShape
from launcher.system.settings import profiles_dir

pytestmark = pytest.mark.engine

SHIPPED = read_model_profiles([profiles_dir() / "models"]).usable


def smallest_of_each_architecture() -> list[ModelProfile]:
    by_size = sorted(SHIPPED, key=lambda profile: profile.quants[-1].size_bytes or 0, reverse=True)
    shaped = [profile for profile in by_size if isinstance(profile.architecture, PublishedShape)]
    return sorted(
        {profile.architecture.architecture: profile for profile in shaped}.values(), key=lambda p: p.name
    )


@pytest.mark.parametrize("profile", smallest_of_each_architecture(), ids=lambda profile: profile.name)
def test_a_shape_is_simulated_by_llama_cpp(profile: ModelProfile, engine: Engine, tmp_path: Path) -> None:
    own = {
        "HF_HOME": str(tmp_path / "hf"),
        "LAUNCHER_HOME": str(tmp_path),
        "LAUNCHER_ENGINE": str(engine.path),
    }
    words = ("plan", f"{profile.name}:{profile.quants[-1].name}", "--ram", "1024G", "--offline", "--json")
    ran = subprocess.run(
        [sys.executable, "-m", "launcher", *words],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["simulated_by"]
    assert told["unverified"] is None
