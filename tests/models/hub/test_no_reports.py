"""huggingface_hub, which names cache and token for us, reports nothing and asks for no registry."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.fakes.hub import FakeHub

ASK = "from huggingface_hub.utils import build_hf_headers; print(build_hf_headers(library_name='x')['user-agent'])"


def asked(tmp_path, first: str) -> list[str]:
    with FakeHub() as hub:
        env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
        for name in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "HF_HUB_OFFLINE", "DISABLE_TELEMETRY"):
            env.pop(name, None)
        subprocess.run([sys.executable, "-c", f"{first}\n{ASK}"], env=env, check=True, capture_output=True)
        return [seen.path for seen in hub.seen]


def test_the_library_asks_nothing_in_our_process(tmp_path):
    if asked(tmp_path / "bare", "") == []:
        pytest.skip("this huggingface_hub asks for nothing by itself")
    assert asked(tmp_path / "ours", "import launcher.models.hub.endpoint") == []
