"""Type launcher commands as a user would, in a process of their own. Hints they print must be typable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cli.hints import check_hints
from tests.fakes.hub import FakeHub
from tests.tiny_gguf import tiny_split

REF = "user/repo:Q4_K_M"
SHARDS = tiny_split("big-Q4_K_M", 2, n_values=300_000)
SIZE = sum(map(len, SHARDS.values()))


def launcher(*arguments: str, timeout_s: float = 60, **variables: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "launcher", *arguments],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    check_hints(done.stderr)
    return done


class Prompt:
    """Types commands in an environment of their own."""

    def __init__(self, env: dict[str, str], timeout_s: float = 60) -> None:
        self.env = env
        self.timeout_s = timeout_s

    def start(self, *words: str, start_new_session: bool = False) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "launcher", *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=start_new_session,
        )

    def type(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=self.timeout_s)
        check_hints(err)
        return process.returncode, out, err

    def json(self, *words: str) -> Any:
        code, out, err = self.type(*words, "--json")
        assert code == 0, err + out
        return json.loads(out)


class Shell(Prompt):
    """Types commands that use a local Hub and a Hugging Face cache of their own."""

    def __init__(self, hub: FakeHub, home: Path) -> None:
        super().__init__({**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hf")})
