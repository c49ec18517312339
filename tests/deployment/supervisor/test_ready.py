import os
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.deployment.deploy import bring_up
from launcher.deployment.records import read_all
from launcher.deployment.status import read_status
from launcher.deployment.supervisor.ready import StallLimits, naming_engine, wait_ready
from launcher.deployment.takedown import take_down
from launcher.engine.log.diagnose import diagnose
from launcher.errors import EngineFailed
from launcher.progress import Step
from tests.serving import a_request, fake_command, stub_model

SOON = StallLimits(idle_s=0.3, busy_s=600.0)


def test_loading_and_the_first_token_are_reported(deployments: Path, tmp_path: Path) -> None:
    steps: list[Step] = []
    command = fake_command("--load-seconds", "0.6", "--slow-token", "0.4")
    bring_up(deployments, a_request("m", command, stub_model(tmp_path)), on_progress=steps.append)
    load, token = (next(s for s in steps if s.phase == phase) for phase in ("load", "token"))
    assert (load.done, load.total, load.unit, load.text) == (1024, 1024, "bytes", "m")
    assert (token.total, token.unit, token.text) == (None, "s", "first token")
    assert [step.phase for step in steps] == sorted(step.phase for step in steps)


@pytest.mark.parametrize(
    ("switches", "sentence", "hint"),
    [
        (
            ("--exit-code", "1", "--log-text", "failed to allocate CUDA1 buffer of size 21474836480"),
            "m: llama-server ran out of memory: it could not allocate 20.0 GiB on CUDA1",
            "a shorter context (-c), a smaller quant or fewer slots take less; its log: launcher logs m",
        ),
        (("--no-such-flag",), "m: this llama-server does not know --no-such-flag", None),
        (("--exit-code", "3"), "m: llama-server exited with status 3: llama_server: exiting due to", None),
        (("--load-seconds", "60", "--crash-after", "0.2"), "m: llama-server was ended by signal 6", None),
        (("--die-at-token",), "m: llama-server ran out of memory", None),
        (("--hang-in-load",), "m stalled: for 0 s llama-server does nothing", "launcher logs m"),
        (("--slow-token", "60"), "m stalled: for 0 s llama-server does nothing", "launcher logs m"),
    ],
)
def test_a_failure_is_one_sentence_and_leaves_nothing(
    deployments: Path, tmp_path: Path, switches: tuple[str, ...], sentence: str, hint: str | None
) -> None:
    request = a_request("m", fake_command(*switches), stub_model(tmp_path))
    with pytest.raises(EngineFailed) as caught:
        bring_up(deployments, request, limits=SOON if "stalled" in sentence else None)
    assert caught.value.message.startswith(sentence)
    assert "\n" not in caught.value.message
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("launcher logs m")
    assert hint in {None, caught.value.hint}
    assert read_all(deployments) == ()
    assert (deployments / "m.log").exists()


def test_a_model_that_loads_but_cannot_answer_is_told_apart(deployments: Path, tmp_path: Path) -> None:
    keys, others = tmp_path / "keys", tmp_path / "others"
    keys.write_text("one\n")
    others.write_text("another\n")
    command = fake_command("--api-key-file", str(others))
    with pytest.raises(EngineFailed, match="m loaded, but produced no token: llama-server refuses the API"):
        bring_up(deployments, a_request("m", command, stub_model(tmp_path), api_key_file=keys))


def test_a_stranger_on_the_port_is_not_taken_for_ours(deployments: Path, tmp_path: Path) -> None:
    model = stub_model(tmp_path)
    stranger = bring_up(deployments, a_request("stranger", fake_command(), model))
    ours = bring_up(deployments, a_request("ours", fake_command(), model))
    mistaken = replace(ours, port=stranger.port, url=stranger.url)
    with pytest.raises(EngineFailed, match="ours stalled"):
        wait_ready(mistaken, limits=SOON)
    assert read_status(stranger).state == "running"


def test_an_engine_behind_a_wrapper_script_is_watched_through_it(deployments: Path, tmp_path: Path) -> None:
    wrapper = tmp_path / "wrapper"
    wrapper.write_text("#!/bin/sh\n" + " ".join(fake_command()) + ' "$@"\nexit $?\n')
    wrapper.chmod(0o755)
    deployment = bring_up(deployments, a_request("m", (str(wrapper),), stub_model(tmp_path)))
    assert deployment.pid != os.getpid()
    assert read_status(deployment).state == "running"


def test_a_model_too_new_for_the_engine_names_its_build(deployments: Path, tmp_path: Path) -> None:
    cause = diagnose("E llama_model_load: error loading model: unknown model architecture: 'kimi-k9'", 1)
    deployment = bring_up(deployments, a_request("m", fake_command(), stub_model(tmp_path)))
    try:
        release = replace(deployment, engine_path="/e/b11026-vulkan-1f/llama-server", engine_commit="0c1e570")
        sentence = naming_engine(release, cause).sentence
        assert sentence.endswith("architecture kimi-k9 (it is llama.cpp 0c1e570, b11026-vulkan-1f)")
        fork = replace(release, engine_path="/e/ik_llama.cpp-cpu-aa/llama-server", engine_commit=None)
        assert naming_engine(fork, cause).sentence.endswith("(it is ik_llama.cpp-cpu-aa)")
        assert cause.remedy is not None
        assert cause.remedy.startswith("launcher engine update")
    finally:
        take_down(deployments, "m")
