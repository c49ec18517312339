"""`up` with a draft model of a repo and a projector by its URL, against the real engine.

The launcher brings the files; llama-server is started, and started again, with their paths.
"""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from launcher.engine.find import Engine
from tests.fakes.hub import FakeHub
from tests.make_gguf import make_gguf
from tests.make_projector import make_projector
from tests.real.test_story import Shell
from tests.serving import until

pytestmark = pytest.mark.engine
MODEL, DRAFT = "user/main-GGUF", "user/draft-GGUF"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    folder = tmp_path / "published"
    folder.mkdir()
    model, draft = (make_gguf(folder / f"{name}-Q8_0.gguf", "llama")[0] for name in ("main", "draft"))
    projector = make_projector(folder / "mmproj-F16.gguf", kind="mlp")
    with FakeHub() as running:
        running.publish(MODEL, {path.name: path for path in (model, projector)})
        running.publish(DRAFT, {draft.name: draft})
        yield running


@pytest.fixture
def shell(engine: Engine, hub: FakeHub, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(engine, tmp_path / "launcher")
    shell.env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    yield shell
    shell.type("stop", "--all")


def test_companions_are_pulled_loaded_and_kept(shell: Shell, hub: FakeHub, tmp_path: Path) -> None:
    companions = ("--", "-hfd", DRAFT, "--spec-type", "draft-simple")
    address = hub.url.replace("://", "://user:PASS@")
    companions += ("--mmproj-url", f"{address}/{MODEL}/resolve/main/mmproj-F16.gguf?sig=SECRET")
    words = (f"{MODEL}:Q8_0", "-c", "512", "--name", "m")
    started = shell.json("up", *words, *companions)
    argv = started["argv"]
    draft, projector = (Path(argv[argv.index(flag) + 1]) for flag in ("-md", "--mmproj"))
    assert (draft.name, projector.name) == ("draft-Q8_0.gguf", "mmproj-F16.gguf")
    assert draft.is_relative_to(tmp_path / "hf")
    assert not {"-hfd", "--mmproj-url"} & set(argv)
    assert {seen.agent for seen in hub.seen if "llama" in seen.agent} == set()
    log = shell.type("logs", "m", "-n", "10000").stdout
    assert str(draft) in log
    assert str(projector) in log

    kept = [path.read_bytes() for path in (tmp_path / "launcher").rglob("*") if path.is_file()]
    assert not [text for text in kept if b"PASS" in text or b"SECRET" in text]

    # random weights may choose the end of the text as their first token
    completion = json.dumps({"prompt": "w1 w2", "n_predict": 4, "ignore_eos": True}).encode()
    request = urllib.request.Request(
        f"{started['url']}/completion", completion, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["tokens_predicted"] == 4
    assert shell.json("up", *words, *companions)["pid"] == started["pid"]

    refused = shell.type("rm", DRAFT, "-y")
    assert (refused.returncode, "is in use by the deployment m" in refused.stderr) == (2, True)

    def again() -> bool:
        [entry] = shell.json("ps")
        return bool(entry["pid"] != started["pid"] and entry["phase"] == "ready")

    hub.seen.clear()
    os.kill(started["pid"], signal.SIGKILL)
    until(again)
    [entry] = shell.json("ps")
    assert psutil.Process(entry["pid"]).cmdline() == argv
    assert hub.seen == []

    shell.type("stop", "m")
    pulled = shell.json("pull", f"{MODEL}:Q8_0", "--offline", *companions)
    assert [Path(path).name for path in pulled["paths"]] == ["main-Q8_0.gguf", draft.name, projector.name]
    assert shell.json("up", *words, "--offline", *companions)["argv"].count(str(draft)) == 1


def test_a_locked_plan_brings_its_companions(shell: Shell, hub: FakeHub, tmp_path: Path) -> None:
    lock = str(tmp_path / "lock.json")
    shell.json("plan", f"{MODEL}:Q8_0", "-c", "512", "--lock", lock, "--", "-hfd", DRAFT)
    argv = shell.json("up", "--locked", lock)["argv"]
    assert Path(argv[argv.index("-md") + 1]).is_relative_to(tmp_path / "hf")
    assert "-hfd" not in argv
    assert "--offline" in argv
