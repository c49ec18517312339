"""What the Tab key offers."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.cli.options.complete import complete_deployment, complete_machine, complete_ref
from tests.cli.shell import launcher


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    return tmp_path


def test_names_that_begin_so(home: Path) -> None:
    assert complete_ref("qwen3-vl") == ["qwen3-vl-4b", "qwen3-vl-8b"]
    assert complete_ref("kimi-k2.5:T") == ["kimi-k2.5:TQ1_0"]
    assert complete_machine("8xh2") == ["8xh200-141g"]
    (home / "state/deployments").mkdir(parents=True)
    (home / "state/deployments/small.json").touch()
    assert complete_deployment("s") == ["small"]
    assert complete_deployment("x") == []


def test_a_broken_config_file_completes_all_the_same(home: Path) -> None:
    (home / "config").mkdir()
    (home / "config/config.toml").write_text("= =")
    assert complete_ref("smollm2-1") == ["smollm2-135m"]


def test_the_shell_is_answered() -> None:
    done = launcher(_LAUNCHER_COMPLETE="complete_bash", COMP_WORDS="launcher up smollm2-1", COMP_CWORD="2")
    assert (done.stdout.split(), done.returncode) == (["smollm2-135m"], 0)


@pytest.mark.parametrize(
    ("ref", "modes"), [("kimi-k2.5:TQ1_0", "thinking"), ("smollm2-135m", ""), ("user/repo", "")]
)
def test_modes_are_those_of_the_model_that_was_typed(ref: str, modes: str) -> None:
    words = f"launcher up {ref} --mode th"
    done = launcher(_LAUNCHER_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD="4")
    assert (done.returncode, done.stdout.strip()) == (0, modes)
