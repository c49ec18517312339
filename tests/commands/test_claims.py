"""What runs here is named by the memory that it claims."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.commands.claims import describe_running
from launcher.deployment.claims import Claim, write_claim
from launcher.deployment.identity import identify
from launcher.plan.amounts import RAM
from launcher.system.settings import read_settings
from launcher.units import GIB


def test_the_largest_are_named_and_the_others_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    settings = read_settings()
    assert describe_running(settings) is None
    me = identify(os.getpid())
    assert me is not None
    for index, name in enumerate("abcd"):
        rows = {RAM: (index + 1) * GIB, "GPU-1": GIB}
        write_claim(settings.claims_dir, name, Claim(name=name, process=me, rows=rows))
    assert describe_running(settings) == "d has 5.0 GiB, c has 4.0 GiB, b has 3.0 GiB and 1 more"
