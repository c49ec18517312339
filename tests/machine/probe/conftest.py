"""A small library with NVML's ABI."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_nvml import nvml_library


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nvml_library(tmp_path_factory.mktemp("nvml"))
