from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from launcher.commands.here import Here, here_with


@pytest.fixture
def here(tmp_path: Path) -> Here:
    """The launcher offline, with a state of its own."""
    here = here_with(offline=True)
    settings = dataclasses.replace(here.settings, state_dir=tmp_path / "state", isolated=True)
    return dataclasses.replace(here, settings=settings)
