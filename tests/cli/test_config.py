"""Defaults of the config file, from setting them to what a command makes of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from launcher.cli.options.configured import configured_defaults
from tests.cli.shell import launcher


def test_a_default_is_set_shown_and_planned_with_and_what_is_typed_wins(tmp_path: Path) -> None:
    home = {"LAUNCHER_HOME": str(tmp_path)}
    for words in (("context", "16k"), ("prefer", "speed"), ("reserve", "ram=2G")):
        done = launcher("config", "set", *words, **home)
        assert done.returncode == 0, done.stderr
    shown = json.loads(launcher("config", "show", "--json", **home).stdout)
    assert (shown["context"], shown["prefer"], shown["reserve"]) == ("16k", "speed", ["ram=2G"])
    plan = ("plan", "qwen3-8b", "--gpu", "3090", "--ram", "16G", "--offline", "--json")
    planned = json.loads(launcher(*plan, **home).stdout)
    assert planned["context"]["tokens"] == 16384
    assert any("the shortest turn (--prefer speed)" in reason for reason in planned["reasons"])
    assert any("2.0 GiB left to others" in reason for reason in planned["reasons"])
    typed = json.loads(launcher(*plan, "-c", "4096", "--prefer", "quality", **home).stdout)
    assert typed["context"]["tokens"] == 4096
    assert not any("--prefer speed" in reason for reason in typed["reasons"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("prefer", "fast"), "'fast' is no prefer"),
        (("port", "99999"), "port 99999 is not from 1 to 65535"),
        (("context", "lots"), "context 'lots' is not a number of tokens"),
        (("nope", "1"), "no default is called 'nope'"),
        (("engine", "/nope/llama-server"), "engine /nope/llama-server does not exist"),
    ],
)
def test_a_value_that_options_refuse_is_not_written(
    tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    done = launcher("config", "set", *words, LAUNCHER_HOME=str(tmp_path))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not (tmp_path / "config").exists()


def test_a_broken_file_gives_no_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.toml").write_text("[defaults]\nport = true\n")
    assert configured_defaults("up") == {}
    (tmp_path / "config/config.toml").write_text('[defaults]\nport = 9\nkey-file = "k"\n')
    assert configured_defaults("up")["up"] == {"port": 9, "api_key_file": "k"}
    assert configured_defaults("plan") == {"plan": {}}
    assert configured_defaults("stop") == {}


@pytest.mark.parametrize(
    "words", [("engine", b"/x\xff"), ("engine", ""), ("prefer", "a\x7f"), ("folders", *["/a"] * 65)]
)
def test_a_value_that_no_file_takes_is_no_crash(tmp_path: Path, words: tuple[str | bytes, ...]) -> None:
    typed = [os.fsdecode(word) for word in words]
    done = launcher("config", "set", *typed, LAUNCHER_HOME=str(tmp_path))
    assert (done.returncode, "internal error" in done.stderr) == (2, False)
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize("text", ["defaults = 3\n", "[[defaults]]\n", 'defaults = "x"\n'])
def test_defaults_that_are_no_table_are_left_as_they_are(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config/config.toml"
    file.parent.mkdir()
    file.write_text(text)
    done = launcher("config", "set", "port", "8080", LAUNCHER_HOME=str(tmp_path))
    assert (done.returncode, file.read_text()) == (2, text)
    assert "error: defaults is no table" in done.stderr


def test_a_link_to_a_config_file_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.toml", tmp_path / "config/config.toml"
    real.write_text("[defaults]\n")
    link.parent.mkdir()
    link.symlink_to(real)
    assert launcher("config", "set", "port", "8080", LAUNCHER_HOME=str(tmp_path)).returncode == 0
    assert link.is_symlink()
    assert real.read_text() == "[defaults]\nport = 8080\n"
