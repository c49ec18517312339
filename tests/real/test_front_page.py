"""The commands of README's front page, typed one after the other with the real engine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.deployment.ports import free_port
from launcher.engine.find import Engine
from tests.cli.hints import check_hints, fault_of

pytestmark = pytest.mark.engine

FRONT = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").split("\n## Reference\n")[0]
TYPED = [
    *re.findall(r"^\$ (launcher .*)$", FRONT.replace("\\\n", " "), re.MULTILINE),
    *re.findall(r"`(launcher [^`\n]+)`", FRONT),
]
# In the words of the page, in an order in which they find what they need. The page's models are large: the
# default one stands for them.
RUN = (
    "launcher recommend",
    "launcher plan qwen3-30b-a3b --gpu 3090 --ram 64G",
    "launcher probe",
    "launcher doctor",
    "launcher up qwen3-8b --port 8080",
    'launcher run smollm2-135m "In one sentence: what is the capital of France?"',
    'launcher run qwen3-8b "…" < file',
    "launcher up ./model.gguf",
    "launcher check -- llama-server …",
    "launcher ls",
    "launcher keys add NAME",
)
NOT_RUN = {
    "launcher plan kimi-k2.5": "tests/test_readme.py holds what it prints against the page",
    "launcher search QUERY": "asks the Hub: tests/commands/test_search.py",
    "launcher connect open-webui": "needs a gateway: tests/gateway/connect",
    'launcher run REF "What is this?" --image FILE': "needs a model that sees: tests/real",
    "launcher serve --host 0.0.0.0": "stays: tests/gateway",
    "launcher run qwen3-8b": "a chat: tests/cli/chat",
    "launcher cluster add user@host": "needs another machine: tests/deployment/cluster",
    "launcher up REF --cluster": "needs another machine: tests/deployment/cluster",
    "launcher enable --now": "needs systemd: tests/deployment/install",
    "launcher export compose": "needs one deployment: tests/deployment/install",
    "launcher bench": "minutes: tests/commands/bench",
    "launcher tune": "minutes: tests/commands/tune",
}


def test_every_command_of_the_page_is_run_or_has_its_reason() -> None:
    known = (*RUN, *NOT_RUN)
    assert [line for line in TYPED if not line.startswith(known)] == []
    assert [line for line in known if not any(typed.startswith(line) for typed in TYPED)] == []


@pytest.mark.parametrize("line", sorted(set(TYPED)))
def test_a_command_of_the_page_and_its_options_exist(line: str) -> None:
    assert fault_of(line) is None


def test_the_front_page_works_when_typed(engine: Engine, default_model: Path, tmp_path: Path) -> None:
    home, here = tmp_path / "launcher", tmp_path / "here"
    here.mkdir()
    (here / "file").write_text("Say hello.")
    shutil.copy(default_model, here / "model.gguf")
    env = {
        **os.environ,
        "LAUNCHER_HOME": str(home),
        "LAUNCHER_ENGINE": str(engine.path),
        "HF_HUB_OFFLINE": "1",
    }

    model = {"smollm2-135m": "./model.gguf", "qwen3-8b": "./model.gguf"}
    instead = {**model, "NAME": "laptop", "8080": str(free_port("127.0.0.1"))}

    def type_(line: str) -> None:
        command, _, file = line.partition(" < ")
        words = [instead.get(word, word) for word in shlex.split(command)]
        words = [*words[:-1], "-m", "model.gguf"] if words[-2:] == ["llama-server", "…"] else words
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *words[1:]],
            cwd=here,
            env=env,
            input=(here / file).read_text() if file else "",
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        check_hints(done.stderr)
        assert done.returncode == 0, f"{line}: {done.stderr}{done.stdout}"
        assert done.stdout.strip()

    try:
        for line in RUN:
            type_(line)
    finally:
        subprocess.run(
            [sys.executable, "-m", "launcher", "stop", "--all"], env=env, capture_output=True, check=False
        )
