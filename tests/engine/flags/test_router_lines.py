"""What a router's file and flags make of its children, held against the real router."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from pathlib import Path

import pytest

from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import Engine
from launcher.engine.flags.command_line import arities_of, read_command
from launcher.engine.flags.pinned_flags import PINNED_ARITIES
from launcher.engine.flags.preset_ini import Section, parse_presets
from launcher.engine.flags.preset_options import Options, options_by_key, pinned_options
from launcher.engine.flags.router_lines import Children, ModelFiles, lines_of_children, read_router
from launcher.errors import UsageError

TAKEN = """\
version = 1
# a comment
[*]
c = 4096 ; of all
[ plain\t]
model=x
\t
[values];comment
model = "x y"   # quotes are a part of it
n-gpu-layers=-1
reverse-prompt = é
c =
[switches]
model = x
no-jinja = yes
ui = 0
mmproj-auto = off
no-host = 0
cpu-moe = false
kvo = no
LLAMA_ARG_NO_CONT_BATCHING = 1
fit=off
[reserved]
model = x
host = 1.2.3.4
port = 9
api-key = k
ssl-key-file = z
log-file = /dev/null
models-max = 2
temp = 0.1
[twice]
c = 1
[twice]
model = x
load-on-startup = false
stop-timeout = 3
[gone]
model = x
draft = 3
[u/r:UD-q4_k_xl]
hf-repo = u/r
[u/r:q8_0]
alias = a, b
model = x
"""
FLAGS = (
    "--temp 0.7 -ot a=CPU -ot b=CPU --alias z --mmproj m --log-file /dev/null --no-webui -np 1 --parallel 2"
)
ENDS = (
    "[a]\n model=x\n",
    "[a]trail\nmodel=x\n",
    "[]\nmodel=x\n",
    "[ ]\nmodel=x",
    "[a]\nmodel\n",
    "[a]\n--model=x\n",
    "[a]\nmodel=x\nno-mmap=1\n",
    "[*]\nfoo=1\n[a]\nmodel=x\n",
    "\ufeff[a]\nmodel=x\n",
    "[a]\nmodel=x\nalias=b,c\n[b]\nmodel=x\n",
    "[a]\nmodel=x\nalias=c\n[b]\nmodel=x\nalias=c\n",
    "[a]\nmodel=x\nload-on-startup=1\n",
    "[a]\nmodel=x\ncontrol-vector-layer-range=1 2\n",
)
"""Files that end llama-server with --models-max 0."""


def options_of(engine: Engine, cache: Path) -> tuple[Options, dict[str, int]]:
    known = read_capabilities(engine, cache).options
    return options_by_key(known), arities_of(known)


def children(text: str, options: Options, arities: dict[str, int], words: str = "") -> Children:
    router = read_router(read_command(f"llama-server --models-preset f {words}".split(), arities), options)
    assert router is not None
    return lines_of_children(router, parse_presets(text, "f"), (), options)


def start(engine: Engine, file: Path, words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(engine.path), "--models-preset", str(file), "--port", "0", *words.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "HF_HOME": str(file.parent)},
    )


@pytest.mark.engine
def test_the_children_are_the_routers(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "f.ini"
    file.write_text(TAKEN)
    read = children(TAKEN, *options_of(engine, tmp_path), FLAGS)
    assert read.refused == ()
    ours = {child.name: list(child.words or ())[1:] for child in read.models}
    with start(engine, file, FLAGS) as router:
        assert router.stdout is not None
        try:
            url = next(line.split()[-1] for line in router.stdout if "listening on" in line)
            with urllib.request.urlopen(f"{url}/models", timeout=20) as answer:
                listed = json.load(answer)["data"]
        finally:
            router.kill()
    theirs = {model["id"]: model["status"]["args"][1:] for model in listed}
    for words in theirs.values():
        at = words.index("--port")
        del words[at : at + 2]
    assert theirs.pop("gone")[:2] == ["--draft-max", "3"]  # of a flag that is gone we know each spelling
    assert ours.pop("gone")[:2] == ["--draft", "3"]
    assert theirs == ours


@pytest.mark.engine
def test_files_that_end_the_router(engine: Engine, tmp_path: Path) -> None:
    options = options_of(engine, tmp_path)
    for number, text in enumerate(ENDS):
        file = tmp_path / f"{number}.ini"
        file.write_text(text)
        with start(engine, file, "--models-max 0") as router:
            assert router.stdout is not None
            assert not any("listening on" in line for line in router.stdout), text
        try:
            assert children(text, *options, "--models-max 0").refused, text
        except UsageError:
            continue


PINNED = options_by_key(pinned_options()), PINNED_ARITIES


def test_without_an_engine_the_pinned_flags_are_known() -> None:
    read = children("[a]\nmodel=x\nctx-size=1\nno-kv-offload=1\nfoo=1\n", *PINNED, "-c 2 --no-jinja")
    assert read.models[0].words is not None
    assert {"--no-kv-offload", "--ctx-size", "2", "--no-jinja"} <= set(read.models[0].words)
    assert read.refused == ("[a] has the key 'foo', which it does not know: llama-server ends",)


def test_a_folders_model_has_the_keys_of_its_section_and_what_lies_beside_it() -> None:
    options, arities = PINNED
    router = read_router(read_command(["llama-server", "--models-dir", "d", "-ngl", "9"], arities), options)
    assert router is not None
    files = ModelFiles(name="m", model="d/m/x.gguf", projector="d/m/mmproj.gguf", draft="d/m/mtp-x.gguf")
    sections = (Section(name="m", entries=(("c", "5"),)),)
    (child,) = lines_of_children(router, sections, (files,), options).models
    assert child.words is not None
    words = " ".join(child.words)
    for part in (
        "--model d/m/x.gguf",
        "--mmproj d/m/mmproj.gguf",
        "d/m/mtp-x.gguf",
        "--ctx-size 5",
        "--n-gpu-layers 9",
    ):
        assert part in words


@pytest.mark.parametrize(
    ("line", "is_router"),
    [
        ("llama-server --models-dir d", True),
        ("LLAMA_ARG_MODELS_PRESET=f llama-server -c 1", True),
        ("llama-server -m x --models-dir d", False),
        ("llama-server -hf u/r --models-preset f", False),
        ("llama-server -c 1", False),
    ],
)
def test_a_line_with_a_model_is_no_router(line: str, is_router: bool) -> None:
    assert (read_router(read_command([line]), PINNED[0]) is not None) == is_router


def test_a_limit_in_the_file_counts_for_nothing() -> None:
    """As in ggml-org/llama.cpp#23668: two models were loaded in spite of it."""
    text = "[*]\nmodels-max = 1\n[a]\nmodel=x\n"
    read = children(text, *PINNED)
    assert read.notes == ("[*] models-max = 1 counts for nothing: only --models-max after llama-server does",)
    assert "--models-max" not in (read.models[0].words or ())


def test_variables_and_flags_of_the_router_itself() -> None:
    line = "LLAMA_ARG_MODELS_MAX=2 LLAMA_ARG_MODELS_DIR=d llama-server --no-models-autoload --models-max 3"
    router = read_router(read_command([line]), PINNED[0])
    assert router is not None
    assert (router.folder, router.most_loaded, router.autoload) == ("d", 3, False)
    with pytest.raises(UsageError, match="no number"):
        read_router(read_command(["llama-server --models-dir d --models-max many"]), PINNED[0])


def test_a_repo_as_a_name_is_a_model_of_the_cache_and_another_name_is_none() -> None:
    repo, other = children("[u/r:Q8_0]\nc=1\n[x]\nc=1\n", *PINNED).models
    assert (repo.from_cache, repo.words is not None) == (True, True)
    assert (other.from_cache, other.words) == (False, None)


@pytest.mark.parametrize(
    "text", ["[a]\n" + "x" * 9000, "".join(f"[{n}]\nc=1\n" for n in range(300)), "\n" + " " * 9000]
)
def test_more_than_presets_can_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_presets(text, "f")
