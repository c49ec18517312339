"""Choosing from a profile, and the flags it gives llama-server."""

from __future__ import annotations

import json
import re
import subprocess

import httpx2
import pytest

from launcher.deployment.ports import free_port
from launcher.engine.client import is_loaded
from launcher.errors import NotFound, UsageError
from launcher.models.profiles.folders import read_model_profiles
from launcher.models.profiles.modes import pick_mode, server_flags
from launcher.models.profiles.profile import pick_profile, quants_to_try
from launcher.system.settings import profiles_dir
from tests.serving import SMALL, running, until

SHIPPED = read_model_profiles([profiles_dir() / "models"])
KIMI = pick_profile(SHIPPED, "kimi-k2.5")
QWEN = pick_profile(SHIPPED, "qwen3-0.6b")


def test_kimi_thinks_unless_told_otherwise():
    expected = (
        "--jinja",
        *("--temp", "1"),
        *("--top-p", "0.95"),
        *("--min-p", "0.01"),
        *("--repeat-penalty", "1"),
        *("--chat-template-kwargs", '{"thinking": true}'),
    )
    assert expected == server_flags(KIMI, None) == server_flags(KIMI, "thinking")


def test_kimi_instant_switches_thinking_off_by_the_templates_own_name():
    flags = server_flags(KIMI, "Instant")
    assert flags[flags.index("--temp") + 1] == "0.6"
    assert json.loads(flags[flags.index("--chat-template-kwargs") + 1]) == {"thinking": False}


def test_templates_that_know_enable_thinking_get_the_engines_own_switch():
    flags = server_flags(QWEN, "instant")
    assert flags[-2:] == ("--reasoning", "off")
    assert "--chat-template-kwargs" not in flags


@pytest.mark.parametrize("profile", SHIPPED.usable, ids=lambda profile: profile.name)
def test_flags_are_plain_arguments(profile):
    for mode in profile.modes:
        flags = server_flags(profile, mode.name)
        assert all(flag.strip() == flag != "" for flag in flags)
        assert all("e" not in value for value in flags if re.fullmatch(r"[\d.e+-]+", value))


@pytest.mark.engine
@pytest.mark.parametrize("profile", SHIPPED.usable, ids=lambda profile: profile.name)
def test_the_engine_takes_the_flags(profile, engine):
    """`--version` after them: llama-server reads every argument before it, and would exit 1 on a bad one."""
    for mode in profile.modes:
        flags = server_flags(profile, mode.name)
        ran = subprocess.run(
            [engine.path, *flags, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
        assert (ran.returncode, "error" in ran.stderr.lower()) == (0, False), ran.stderr


KIMI_ENDING = (
    "{%- if thinking is defined and thinking is false -%}<think></think>{%- else -%}<think>{%- endif -%}"
)
"""The end of Kimi K2.5's own template (moonshotai/Kimi-K2.5, chat_template.jinja), where its mode is decided."""


@pytest.mark.engine
@pytest.mark.parametrize(
    "expected", [("thinking", 1.0, "<think>"), ("instant", 0.6, "</think>")], ids=lambda expected: expected[0]
)
def test_sampling_and_template_arguments_reach_the_server(engine, default_model, tmp_path, expected):
    mode, temperature, ending = expected
    template = tmp_path / "kimi.jinja"
    template.write_text("{%- for m in messages -%}{{ m.content }}{%- endfor -%}" + KIMI_ENDING)
    port = free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    command = (
        *(str(engine.path), *SMALL, "--no-warmup", *server_flags(KIMI, mode)),
        *("--chat-template-file", str(template), "-m", str(default_model), "--port", str(port)),
    )
    with running(*command, log=tmp_path / "log"):
        until(lambda: is_loaded(url))
        sampling = httpx2.get(f"{url}/props").json()["default_generation_settings"]["params"]
        asked = {"messages": [{"role": "user", "content": "Hello"}]}
        prompt = httpx2.post(f"{url}/apply-template", json=asked).json()["prompt"]
    assert {
        name: round(sampling[name], 4) for name in ("temperature", "top_p", "min_p", "repeat_penalty")
    } == {
        "temperature": temperature,
        "top_p": 0.95,
        "min_p": 0.01,
        "repeat_penalty": 1.0,
    }
    assert prompt.startswith("Hello")
    assert prompt.endswith(ending)


@pytest.mark.parametrize(
    ("typed", "label"),
    [
        ("INT4", "Q4_X"),
        ("int4", "Q4_X"),
        ("Q4_X", "Q4_X"),
        ("Q2_K_XL", "UD-Q2_K_XL"),
        ("UD-Q2_K_XL", "UD-Q2_K_XL"),
        ("TQ1_0", "UD-TQ1_0"),
        ("ud-q4_k_xl", "UD-Q4_K_XL"),
    ],
)
def test_short_names_map_to_real_labels(typed, label):
    assert [label] == [quant.label for quant in quants_to_try(KIMI, typed)]


def test_without_a_wish_all_quants_are_tried_best_first():
    assert [quant.name for quant in quants_to_try(KIMI, None)] == ["INT4", "Q4_K_XL", "Q2_K_XL", "TQ1_0"]


def test_a_profile_can_have_one_default_quant():
    assert [quant.name for quant in quants_to_try(QWEN, None)] == ["Q8_0"]
    assert [quant.name for quant in quants_to_try(QWEN, "Q4_0")] == ["Q4_0"]


def test_an_unknown_quant_lists_the_known_ones():
    with pytest.raises(NotFound) as caught:
        quants_to_try(KIMI, "Q5_K_M")
    assert str(caught.value) == "profile kimi-k2.5 has no quant 'Q5_K_M', only INT4, Q4_K_XL, Q2_K_XL, TQ1_0"
    assert caught.value.hint is not None
    assert "launcher plan kimi-k2.5:Q4_K_XL" in caught.value.hint


def test_an_unknown_mode_names_the_known_ones():
    with pytest.raises(UsageError) as caught:
        pick_mode(KIMI, "turbo")
    assert str(caught.value) == "profile kimi-k2.5 has no mode 'turbo', only thinking, instant"
    assert caught.value.hint == "--mode thinking"


def test_an_unknown_profile_suggests_the_nearest():
    with pytest.raises(NotFound) as caught:
        pick_profile(SHIPPED, "kimi-k25")
    assert caught.value.hint == "launcher profiles show kimi-k2.5"
    with pytest.raises(NotFound) as caught:
        pick_profile(SHIPPED, "zzz")
    assert caught.value.hint == "launcher models"


def test_names_are_found_without_case():
    assert KIMI is pick_profile(SHIPPED, "Kimi-K2.5")
