"""Plans as command lines of ik_llama.cpp, by its captured help."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.engine.flags.argv import server_argv
from launcher.engine.flags.help_text import Capabilities, parse_version
from launcher.errors import UsageError
from launcher.plan.modes import Dialect, FlashAttention, LoadMode
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from tests.engine.flags.test_argv import SERVING, plan_for, value
from tests.engine.test_dialect import IK_OPTIONS

VERSION = parse_version("version: 0 (unknown)\nbuilt with cc 12.2.0 for x86_64-linux-gnu\n")
IK_WORKLOAD = Workload(ctx_size=2048, dialect=Dialect.IK)


def able(*without: str) -> Capabilities:
    assert VERSION is not None
    options = tuple(option for option in IK_OPTIONS if not set(without) & set(option.spellings))
    return Capabilities(sha256="0" * 64, version=VERSION, options=options, dialect=Dialect.IK)


def ik_plan(*free_mib: int) -> Plan:
    return plan_for(*free_mib, workload=IK_WORKLOAD)


def argv_of(plan: Plan, *user: str, known: Capabilities | None = None) -> tuple[str, ...]:
    return server_argv(plan, SERVING, capabilities=known or able(), user_flags=user)


def test_every_word_is_one_of_its_own() -> None:
    plan = ik_plan(320, 160)
    argv = argv_of(plan)
    flags = [word for word in argv[1:] if word.startswith("-") and not word[1:2].isdigit()]
    assert [flag for flag in flags if not able().has(flag)] == []
    expected = {
        "-m": "/models/m.gguf", "-a": "m", "--host": "127.0.0.1", "--port": "8123", "-c": "2048", "-np": "1",
        "-fa": "on", "-dev": "CUDA0,CUDA1", "-sm": "layer", "-mla": "3", "-amb": "512", "-t": "8", "-ctk": "f16",
    }  # fmt: skip
    assert expected == {flag: value(argv, flag) for flag in expected}
    assert value(argv, "-ot").endswith("exps=CPU")
    # what llama.cpp has and it has not, or has as a switch
    assert not {"--fit", "-fit", "-kvu", "-lm", "--offline", "-lv", "--verbosity"} & set(argv)
    assert "--log-disable" in argv  # no llama.log in the user's folder
    assert plan.dialect is Dialect.IK


def test_without_a_device_and_with_its_load_modes() -> None:
    plan = ik_plan()
    assert "-dev" not in argv_of(plan)
    assert value(argv_of(plan), "-ngl") == "0"
    assert "--no-mmap" in argv_of(replace(plan, load_mode=LoadMode.NONE))
    assert "--mlock" in argv_of(replace(plan, load_mode=LoadMode.MLOCK))
    assert value(argv_of(replace(plan, flash_attn=FlashAttention.OFF)), "-fa") == "off"
    assert "-fmoe" not in argv_of(plan)  # on by itself


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("-mla", "1"), "-mla 1 after -- contradicts the plan, which has -mla 3"),
        (("--attention-max-batch", "2048"), "contradicts the plan, which has --attention-max-batch 512"),
        (("--fit",), "--fit after -- "),
        (("-ctk-first", "q8_0,2"), "-ctk-first after -- would move memory"),
        (("-rtr",), "-rtr after -- repacks weights in memory, and this plan loads with mmap"),
        (("-kvu",), "this llama-server has no flag -kvu"),
        (("--list-devices",), "this llama-server has no flag --list-devices"),
    ],
)
def test_flags_that_contradict_are_refused(flags: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        argv_of(ik_plan(), *flags)


def test_its_own_flags_are_passed_on() -> None:
    argv = argv_of(ik_plan(), "-ser", "6,1", "-ger", "-no-fmoe", "-mla", "3")
    assert argv[-6:] == ("-ser", "6,1", "-ger", "-no-fmoe", "-mla", "3")
    repacked = replace(ik_plan(), load_mode=LoadMode.NONE)
    assert argv_of(repacked, "-rtr")[-1] == "-rtr"


def test_slots_and_old_builds_are_refused() -> None:
    with pytest.raises(UsageError, match=r"2 slots of ik_llama.cpp divide the context"):
        argv_of(replace(ik_plan(), n_parallel=2))
    with pytest.raises(UsageError, match=r"older than those whose memory is known: it has no --dry-run"):
        argv_of(ik_plan(), known=able("--dry-run"))
