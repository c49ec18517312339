"""What is typed behind `launcher serve`."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.commands.here import here_with
from launcher.errors import LauncherError
from launcher.gateway.config import GatewayConfig, ModelConfig
from launcher.gateway.gateway import find_typed
from tests.make_gguf import make_gguf


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GatewayConfig:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    make_gguf(tmp_path / "file.gguf", "llama", hollow=True)
    model = ModelConfig(ref=str(tmp_path / "file.gguf"), slots=2)
    return GatewayConfig(models={"mine": model}, aliases={"gpt-4o": "mine"}, default="mine")


@pytest.mark.parametrize("typed", ["mine", "gpt-4o"])
def test_a_model_of_the_config_file_is_served_by_its_name(config: GatewayConfig, typed: str) -> None:
    servable = find_typed(here_with(offline=True), config, typed)
    assert (servable.name, servable.config) == ("mine", config.models["mine"])


def test_a_name_that_nobody_knows_is_not_the_default(config: GatewayConfig) -> None:
    with pytest.raises(LauncherError, match="'nobody' names no profile, file or hub repo"):
        find_typed(here_with(offline=True), config, "nobody")
