"""`launcher check` of a router: its children are those of the real llama-server, and so are their rows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from launcher.commands.check import CheckRequest
from launcher.commands.check_router import CheckedRouter, check_any, router_document
from launcher.commands.here import here_with
from launcher.commands.probe import MachineChoice
from launcher.deployment.ports import free_port
from launcher.engine.find import Engine
from launcher.errors import NotFound, UsageError
from launcher.plan.plan import Finding
from launcher.units import GIB
from tests.cli.shell import launcher
from tests.commands.test_check import gaps
from tests.make_gguf import make_gguf
from tests.plan.test_real_load import TWO_GPUS

PRESETS = """\
version = 1
[*]
ctx-size = 8192 ; of all that say nothing
no-warmup = true
load-mode = none
fit = off
cache-ram = 0

[small]
model = {models}/qwen3moe.gguf
c = 2048
load-on-startup = on
stop-timeout = 1

[window:q4.k_m]
LLAMA_ARG_MODEL = {models}/gemma3.gguf
parallel = 2
no-kv-unified = 1
"""
_ARGUMENT = re.compile(r"^\S+ I srv +load: {3}(.*)$")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    for name in ("qwen3moe", "gemma3"):
        make_gguf(folder / f"{name}.gguf", name, hollow=True)
    return folder


@pytest.fixture
def presets(models: Path, tmp_path: Path) -> Path:
    file = tmp_path / "presets.ini"
    file.write_text(PRESETS.format(models=models))
    return file


def check(words: list[str], *, engine: Engine | None = None, **env: str) -> CheckedRouter:
    request = CheckRequest(words=tuple(words), engine=engine.path if engine else None)
    checked = check_any(here_with(env=tuple(env.items())), request)
    assert isinstance(checked, CheckedRouter)
    return checked


def served(
    words: list[str], names: list[str], env: dict[str, str]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The real router's words and logs of its children, all of them loaded, by name."""
    argv: dict[str, list[str]] = defaultdict(list)
    logs: dict[str, str] = defaultdict(str)
    by_port: dict[str, str] = {}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **env}
    ) as router:
        assert router.stdout is not None
        try:
            for line in router.stdout:
                if (spawned := re.search(r"instance with name=(.*) on port (\d+)", line)) is not None:
                    by_port[spawned[2]] = spawned[1]
                elif (argument := _ARGUMENT.match(line)) is not None:
                    argv[list(by_port.values())[-1]].append(argument[1])
                elif (child := re.match(r"\[ *(\d+)\] ", line)) is not None:
                    logs[by_port[child[1]]] += line[child.end() :]
                elif "listening on" in line:
                    _ask_for(names, re.findall(r"http://\S+", line)[0])
                if (
                    sum("reserve took" in log for log in logs.values()) == len(names) + 1
                ):  # and one on startup
                    break
        finally:
            router.kill()
    return argv, logs


def _ask_for(names: list[str], url: str) -> None:
    for name in names:
        body = json.dumps({"model": name}).encode()
        asked = urllib.request.Request(f"{url}/models/load", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            assert answer.status == 200


def compare_with_router(engine: Engine, presets: Path, folder: Path, **env: str) -> CheckedRouter:
    port = str(free_port("127.0.0.1"))
    words = [str(engine.path), "--models-preset", str(presets), "--models-dir", str(folder)]
    words += ["--port", port, "-lv", "4", "-np", "1", "-np", "3", "--offline"]
    checked = check(words, engine=engine, **env)
    argv, logs = served(words, ["window:K_M", "alone"], env)
    assert sorted(argv) == [model.child.name for model in checked.models] == ["alone", "small", "window:K_M"]
    for model in checked.models:
        assert model.checked is not None, model.error
        theirs = argv[model.child.name][1:]
        at = theirs.index("--port")
        assert list(model.child.words or ())[1:] == theirs[:at] + theirs[at + 2 :]
        assert gaps(model.checked.verdict, logs[model.child.name]) == {}
    return checked


@pytest.mark.engine
def test_children_and_their_rows_on_the_host(
    engine: Engine, presets: Path, models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    (folder / "alone").mkdir(parents=True)
    (folder / "alone" / "m.gguf").symlink_to(models / "qwen3moe.gguf")
    (folder / "mtp-no-model.gguf").touch()
    checked = compare_with_router(engine, presets, folder)
    assert checked.finding is Finding.FITS
    assert [model.child.at_startup for model in checked.models] == [False, True, False]


@pytest.mark.vulkan
def test_children_and_their_rows_on_software_gpus(
    vulkan_engine: Engine, presets: Path, models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    (folder / "alone").mkdir(parents=True)
    (folder / "alone" / "m.gguf").symlink_to(models / "gemma3.gguf")
    compare_with_router(vulkan_engine, presets, folder, **TWO_GPUS)


BOUGHT = MachineChoice(gpus=("3060",), ram_bytes=32 * GIB)
CONTEXTS = """\
[*]
c = 160000
parallel = 1
n-gpu-layers = 99
cache-ram = 0
fit = {fit}
{more}
[a]
model = {models}/qwen3moe.gguf
[b]
model = {models}/qwen3moe.gguf
[c]
model = {models}/qwen3moe.gguf
ubatch-size = 256
"""
"""Three models of 4.7 GiB: two of them fit on a card of 12."""


def answer(engine: Engine, file: Path, *words: str) -> tuple[Finding, dict[str, Any]]:
    line = ("llama-server", "--models-preset", str(file), *words)
    checked = check_any(here_with(), CheckRequest(words=line, engine=engine.path, machine=BOUGHT))
    assert isinstance(checked, CheckedRouter)
    return checked.finding, router_document(checked)


@pytest.mark.engine
def test_as_many_models_as_fit_at_once(engine: Engine, models: Path, tmp_path: Path) -> None:
    file = tmp_path / "f.ini"
    file.write_text(CONTEXTS.format(models=models, fit="off", more=""))
    finding, document = answer(engine, file, "--models-max", "0")
    assert (finding, document["fits"], document["starts"]) == (Finding.DOES_NOT_FIT, False, True)
    assert [model["fits"] for model in document["models"]] == [True, True, True]
    assert document["router"]["models_max_that_fits"] == 2
    too_large = document["router"]["too_large"]
    assert (too_large["where"], len(too_large["models"])) == ("CUDA0", 3)
    assert document["corrected"][-4:] == ["--models-preset", str(file), "--models-max", "2"]
    finding, document = answer(engine, file, "--models-max", "2")
    assert (finding, document["fits"], document["router"]["too_large"]) == (Finding.FITS, True, None)


@pytest.mark.engine
def test_what_starts_at_once_is_not_made_smaller(engine: Engine, models: Path, tmp_path: Path) -> None:
    """Asked for one after another, --fit moves the third to the host; on startup each sees an empty card."""
    file = tmp_path / "f.ini"
    text = CONTEXTS.format(models=models, fit="on", more="").replace("n-gpu-layers = 99\n", "")
    file.write_text(text)
    finding, document = answer(engine, file)
    assert finding is Finding.FITS
    (smaller,) = document["router"]["made_smaller"]
    assert "more of it on the host, by --fit" in smaller
    file.write_text(text.replace("fit = on", "fit = on\nload-on-startup = 1"))
    finding, document = answer(engine, file)
    assert (finding, document["router"]["too_large"]["at_startup"]) == (Finding.DOES_NOT_FIT, True)


@pytest.mark.engine
def test_a_model_that_is_not_here_is_no_yes(engine: Engine, models: Path, tmp_path: Path) -> None:
    file = tmp_path / "f.ini"
    file.write_text(
        f"[a]\nmodel={models}/qwen3moe.gguf\nc=2048\nload-mode=none\n[b]\nmodel={tmp_path}/none.gguf\n"
    )
    finding, document = answer(engine, file)
    assert (finding, document["fits"]) == (Finding.UNVERIFIED, None)
    absent = document["models"][1]
    assert (absent["fits"], absent["check"], absent["error"]["code"]) == (None, None, "not_found")


@pytest.mark.engine
def test_what_llama_server_would_not_start_is_a_no(engine: Engine, models: Path, tmp_path: Path) -> None:
    file = tmp_path / "f.ini"
    file.write_text(
        f"[a]\nmodel={models}/qwen3moe.gguf\nc=many\n[b]\nc=1\n[d]\nmodel={models}/gemma3.gguf\nfoo=1\n"
    )
    line = ("llama-server", "--models-preset", str(file))
    bought = ("--gpu", "3060", "--ram", "32G")
    done = launcher("check", *bought, "--json", "--", *line, timeout_s=120, LAUNCHER_ENGINE=str(engine.path))
    document = json.loads(done.stdout)
    assert (done.returncode, document["fits"], document["starts"]) == (3, False, False)
    assert document["refused"] == ["[d] has the key 'foo', which it does not know: llama-server ends"]
    assert [model["fits"] for model in document["models"]] == [False, False, True]
    done = launcher("check", *bought, "--", *line, LAUNCHER_ENGINE=str(engine.path), COLUMNS="200")
    assert "no: some models do not fit when they are alone" in done.stdout
    assert "note: b: no key of b names its model" in done.stdout


@pytest.mark.parametrize(
    ("words", "error", "sentence"),
    [
        (["--models-preset", "none.ini"], NotFound, "there is no file"),
        (["--models-dir", "none"], NotFound, "there is no folder"),
        (["--models-dir", "empty"], NotFound, "no model for llama-server to serve"),
        (["--models-preset", "bytes.ini"], UsageError, "no UTF-8 text"),
        (["--models-preset", "large.ini"], UsageError, "cannot be read: it has more than"),
        (["--models-preset", "empty"], UsageError, "cannot be read"),
        (["--models-preset", "wrong.ini"], UsageError, "line 2: llama-server reads no presets from"),
    ],
)
def test_files_that_are_none(
    words: list[str],
    error: type[UsageError | NotFound],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bytes.ini").write_bytes(b"[a]\nmodel=\xff\n")
    (tmp_path / "large.ini").write_bytes(b"#" * (1 << 21))
    (tmp_path / "wrong.ini").write_text("[a]\n  model = x\n")
    with pytest.raises(error, match=sentence) as raised:
        check_any(here_with(), CheckRequest(words=("llama-server", *words)))
    assert raised.value.hint


def test_a_ref_and_a_router_are_two_things() -> None:
    request = CheckRequest(words=("llama-server", "--models-dir", "d"), ref="smollm2-135m")
    with pytest.raises(UsageError, match="two things to check"):
        check_any(here_with(), request)
