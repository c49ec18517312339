"""Every request that `up` of a Hub repo makes: the commit, the listing, the files, and nothing that calls home."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from tests.fakes.hub import FakeHub, Seen
from tests.moe_shards import moe_shards

pytestmark = pytest.mark.engine

REPO = "user/moe-GGUF"
REF = f"{REPO}:UD-Q4_K_XL"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running:
        running.publish(REPO, moe_shards("UD-Q4_K_XL/moe-UD-Q4_K_XL", n_expert=64))
        yield running


def type_(engine: Engine, hub: FakeHub, home: Path, *words: str) -> list[Seen]:
    """Type a command that succeeds, and return what was asked of the Hub and its storage meanwhile."""
    before = len(hub.seen)
    own = {"HF_HOME": str(home / "hf"), "LAUNCHER_HOME": str(home / "launcher"), "HF_ENDPOINT": hub.url}
    env = {**os.environ, **own, "LAUNCHER_ENGINE": str(engine.path)}
    for name in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "HF_HUB_OFFLINE"):
        env.pop(name, None)
    command = [sys.executable, "-m", "launcher", *words]
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return hub.seen[before:]


def test_up_asks_for_the_model_and_for_nothing_else(engine: Engine, hub: FakeHub, tmp_path: Path) -> None:
    up = ("up", REF, "-y", "--json", "-c", "256", "--name", "wire")
    first = type_(engine, hub, tmp_path, *up)
    commit = hub.repos[REPO].branches["main"]
    allowed = (
        rf"/api/models/{REPO}/revision/main",
        rf"/api/models/{REPO}/tree/{commit}\?.*",
        rf"/{REPO}/resolve/{commit}/UD-Q4_K_XL/moe-UD-Q4_K_XL-0000\d-of-0000\d\.gguf",
        r"/[0-9a-f]{64}\?.*",  # the storage's signed links
    )
    try:
        assert first
        strangers = [
            seen.path for seen in first if not any(re.fullmatch(like, seen.path) for like in allowed)
        ]
        assert strangers == []
        assert {seen.method for seen in first} == {"GET"}
        type_(engine, hub, tmp_path, "stop", "wire")
        again = type_(engine, hub, tmp_path, *up)  # all of it is here: only if the branch has moved is asked
        assert [seen.path for seen in again] == [f"/api/models/{REPO}/revision/main"]
    finally:
        assert type_(engine, hub, tmp_path, "stop", "--all") == []


def test_commands_that_need_no_hub_ask_none(engine: Engine, hub: FakeHub, tmp_path: Path) -> None:
    for words in (("recommend",), ("models",), ("ls",), ("ps",), ("plan", "qwen3-8b", "--offline")):
        assert type_(engine, hub, tmp_path, *words) == []
