"""`launcher check` against the real engine: the same command line, loaded, must show the rows that were answered."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.commands.companions import find_companions, open_companions
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import Engine
from launcher.engine.flags.command_line import arities_of, read_command
from launcher.engine.flags.user_flags import split_flags
from launcher.engine.log.load_log import compare_load, parse_load_log
from launcher.machine.machine import Machine
from launcher.models.catalogue import sources_of
from launcher.models.local import open_path
from launcher.plan.amounts import HOST
from launcher.plan.check.check import Check, check_configuration
from launcher.plan.modes import LoadMode
from launcher.simulate.client import SimulatorPool
from launcher.system.settings import read_settings
from launcher.units import MIB
from tests.cli.shell import launcher
from tests.fakes.hub import FakeHub
from tests.make_gguf import make_gguf
from tests.make_projector import make_projector
from tests.plan.shapes import machine
from tests.plan.test_real_load import TWO_GPUS, allocated, load
from tests.range_server import serve_ranges
from tests.simulate.engine_log import software_gpus

ROUNDING_MIB = 0.1
LOADED = "initializing, n_slots"
WARM = ["--host", "127.0.0.1", "--port", "0", "-lv", "4"]
QUIET = [*WARM, "--no-warmup"]
EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"

COMMANDS = (
    ("qwen3moe", "-c 4096 -cmoe -ngl 99 -lm none -fit off"),
    ("qwen3moe", "-c 4096 -ncmoe 4 -ngl 99 -lm none -fit off"),
    ("deepseek2", "-c 4096 --n-cpu-moe 4 --gpu-layers all -ts 1,3 -fit off -lm none"),
    ("qwen3moe", rf"-c 4096 -ot 'blk\.(1|3|5){EXPERTS}=CPU,blk\.2{EXPERTS}=Vulkan1' -lm none -fit off"),
    ("deepseek2", "-c 8192 -np 4 -lm none -fit off"),
    ("qwen3moe", "-c 8192 -np 4 -lm none -fit off"),
    ("qwen3moe", "-c 8192 -np 4 -kvu -lm none -fit off"),
    ("gemma3", "-c 8192 -np 4 -lm none -fit off"),
    ("qwen3moe", "-c 4096 -ctk q8_0 -ctv q8_0 -fa on -lm none -fit off"),
    ("qwen3moe", "-lm none -fit off"),
    ("qwen3moe", "-np 2 -lm none"),
    ("deepseek2", "-c 4096 -ngl 5 -ub 1024 -lm none -fit off"),
    ("qwen3moe", "-c 4096 -sm none -mg 1 -lm none -fit off"),
    ("qwen3moe", "-c 4096 -dev Vulkan1 -nkvo -lm none -fit off"),
    ("qwen3moe", "-c 4096 -cmoe --no-host -lm none -fit off"),
    ("qwen3moe", "-c 4096 -ngl 0 -lm none -fit off"),
    ("gemma3", "--ctx-size 4096 --swa-full -fa off -np 1"),
    ("qwen3moe", "-c 4096 -ncmoe 99 -dev none -lm none -fit off"),
    ("qwen3moe", "-fitt 1900,1960 -lm none"),
    ("qwen3moe", "-fitt 1850 -dev Vulkan1 -np 2 -lm none"),
    ("deepseek2", "-c 4096 -fitt 1960 -ctk q8_0 -ctv q8_0 -lm none"),
    ("gemma3", "-np 1 -fitt 1900 -fitc 1024 -dev Vulkan0"),
    ("deepseek2", "-fitt 1900 -ngl 99 -dev Vulkan0 -lm none"),
)
"""Model, and flags as they are typed: experts on the host, all and some, by flag and by pattern; slots that share and that
do not; cache types; the context left open, with and without --fit; parts on the host; modes of splitting."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checked")
    return {
        name: make_gguf(folder / f"{name}.gguf", name, hollow=True)[0]
        for name in ("qwen3moe", "deepseek2", "gemma3")
    }


@pytest.fixture(scope="module")
def simulators(engine: Engine) -> Iterator[SimulatorPool]:
    with SimulatorPool(engine.folder) as simulators:
        yield simulators


def examine(words: list[str], path: Path, simulators: SimulatorPool) -> Check:
    command = read_command(["llama-server", "-m", str(path), *words])
    assert command.refused == ()
    box = machine(*software_gpus(2))
    return check_configuration(command.configuration, open_path(path).model, box, simulators, str(path))


def gaps(verdict: Check, log: str) -> dict[tuple[str, str], float]:
    """Checked minus loaded, in MiB, where they differ; the host's weights only where they are not mapped pages."""
    found = allocated(log)
    mapped = verdict.question.load_mode is LoadMode.MMAP
    pairs = {
        (row.where, kind): (amount.n_bytes / MIB, found[row.where, kind])
        for row in verdict.ledger
        for kind, amount in (("weights", row.weights), ("kv", row.kv), ("compute", row.compute))
        if not (mapped and row.where == HOST and kind == "weights")
    }
    return {key: ours - theirs for key, (ours, theirs) in pairs.items() if abs(ours - theirs) > ROUNDING_MIB}


@pytest.mark.vulkan
@pytest.mark.parametrize(("name", "line"), COMMANDS)
def test_the_rows_are_the_engines(
    name: str, line: str, vulkan_engine: Engine, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    words = shlex.split(line)
    verdict = examine(words, models[name], simulators)
    log = load((str(vulkan_engine.path), "-m", str(models[name]), *words, *QUIET), TWO_GPUS)
    assert "reserve took" in log, log[-2000:]
    assert verdict.simulated_by is not None
    assert gaps(verdict, log) == {}
    (n_ctx_seq,) = set(re.findall(r"n_ctx_seq += (\d+)", log))
    slots = 1 if verdict.question.kv_unified else verdict.question.n_parallel
    assert int(n_ctx_seq) * slots == verdict.pool


@pytest.mark.vulkan
@pytest.mark.parametrize("line", ["-sm row", "-ctv q8_0 -fa off", "-ctk q8_0 -ctv q4_0"])
def test_what_the_engine_refuses_does_not_fit(
    line: str, vulkan_engine: Engine, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    words = [*shlex.split(line), "-c", "512", "-fit", "off"]
    path = models["deepseek2"]
    verdict = examine(words, path, simulators)
    log = load((str(vulkan_engine.path), "-m", str(path), *words, *QUIET), TWO_GPUS)
    assert "exiting due to model loading error" in log
    assert not verdict.fits
    assert verdict.refusal is not None
    assert verdict.refusal.rpartition(": ")[2].partition(" (")[0] in log


@pytest.mark.vulkan
@pytest.mark.parametrize("line", ["-ngl 99 -ts 1,3", "-ngl 5", "-ts 5,9", "-ngl 7 -ts 3,1"])
def test_layers_go_where_the_engine_puts_them(
    line: str, vulkan_engine: Engine, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    words = [*shlex.split(line), "-c", "512", "-fit", "off", "-lm", "none"]
    verdict = examine(words, models["qwen3moe"], simulators)
    argv = (str(vulkan_engine.path), "-m", str(models["qwen3moe"]), *words, *QUIET, "-lv", "6")
    placed = dict(re.findall(r"layer +(\d+) assigned to device (\w+)", load(argv, TWO_GPUS)))
    assert len(placed) == 13
    ours = {str(layer): share.where for share in verdict.assignment.shares for layer in share.layers}
    assert ours == {layer: HOST if where == "CPU" else where for layer, where in placed.items()}


@pytest.mark.engine
def test_a_server_without_flags_on_the_host(
    engine: Engine, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    words = ["-lm", "none", "-fit", "off"]
    path = models["qwen3moe"]
    command = read_command(
        ["llama-server", *words], arities_of(read_capabilities(engine, path.parent).options)
    )
    verdict = check_configuration(
        command.configuration, open_path(path).model, machine(), simulators, str(path)
    )
    log = load((str(engine.path), "-m", str(path), *words, *QUIET), {})
    assert gaps(verdict, log) == {}


@pytest.fixture(scope="module")
def beside(models: dict[str, Path]) -> list[str]:
    """Flags for a projector and a draft model that drafts."""
    folder = models["qwen3moe"].parent
    draft = make_gguf(folder / "llama.gguf", "llama", hollow=True)[0]
    projector = make_projector(folder / "mm.gguf", kind="mlp", n_text=1024)
    return ["--mmproj", str(projector), "-md", str(draft), "--spec-type", "draft-simple"]


def gaps_beside(
    words: list[str], path: Path, box: Machine, engine: Engine, simulating: Engine
) -> dict[str, float]:
    """Checked minus loaded, in MiB, of every row; 2 slots that do not share, nothing mapped. A projector's compute is
    reserved by the warm-up.
    """
    words = [*words, "-c", "4096", "-np", "2", "-lm", "none", "-fit", "off"]
    command = read_command(["llama-server", "-m", str(path), *words])
    assert (command.refused, command.notes) == ((), ())
    found = find_companions(command.others, sources_of(read_settings()))
    with (
        open_companions(found, simulating, read_settings(), box) as opened,
        SimulatorPool(simulating.folder) as simulators,
    ):
        verdict = check_configuration(
            command.configuration, open_path(path).model, box, simulators, str(path), opened
        )
    assert verdict.simulated_by is not None
    assert sum("in the ledger" in reason for reason in verdict.reasons) == 2
    log = load((str(engine.path), "-m", str(path), *words, *WARM), TWO_GPUS, LOADED)
    assert LOADED in log, log[-2000:]
    rows = compare_load(verdict.ledger, parse_load_log(log))
    assert [row.where for row in rows] == [row.where for row in verdict.ledger]
    return {row.where: (row.planned_bytes - row.logged_bytes) / MIB for row in rows}


@pytest.mark.engine
def test_with_a_projector_and_a_draft_model_on_the_host(
    engine: Engine, models: dict[str, Path], beside: list[str]
) -> None:
    found = gaps_beside(beside, models["qwen3moe"], machine(), engine, engine)
    assert list(found) == [HOST]
    assert not {where: gap for where, gap in found.items() if abs(gap) > ROUNDING_MIB}


@pytest.mark.vulkan
@pytest.mark.parametrize(
    ("line", "places"),
    [
        ("-cmoe", ["Vulkan0", "Vulkan1", HOST]),
        ("-ts 1,3 -ctkd q8_0 -ctvd q8_0 -fa on", ["Vulkan0", "Vulkan1", HOST]),
        ("-dev Vulkan1 -devd Vulkan0", ["Vulkan1", "Vulkan0", HOST]),
        ("-sm none -mg 1", ["Vulkan1", "Vulkan0", HOST]),
        ("-sm none -mg 1 -devd Vulkan1,Vulkan0", ["Vulkan1", "Vulkan0", HOST]),
        ("-dev Vulkan0 --no-mmproj-offload -devd none -nkvo", ["Vulkan0", HOST]),
    ],
)
def test_with_a_projector_and_a_draft_model_on_software_gpus(
    line: str,
    places: list[str],
    engine: Engine,
    vulkan_engine: Engine,
    models: dict[str, Path],
    beside: list[str],
) -> None:
    box = machine(*software_gpus(2))
    found = gaps_beside([*line.split(), *beside], models["qwen3moe"], box, vulkan_engine, engine)
    assert list(found) == places
    assert not {where: gap for where, gap in found.items() if abs(gap) > ROUNDING_MIB}


@pytest.mark.vulkan
@pytest.mark.parametrize(
    "line",
    [
        "-fitt 1820 -dev Vulkan0 --mmproj {projector}",
        # llama-server adds the projector to the target with its device's number, which this line does not use
        "-fitt 1820 -dev Vulkan1 --mmproj {projector}",
        "-fitt 1850 -dev Vulkan0 -md {draft} --spec-type draft-simple",
    ],
)
def test_fit_leaves_room_for_companions_as_the_engine_does(
    line: str,
    engine: Engine,
    vulkan_engine: Engine,
    simulators: SimulatorPool,
    models: dict[str, Path],
    beside: list[str],
) -> None:
    words = [*line.format(projector=beside[1], draft=beside[3]).split(), "-np", "1", "-lm", "none"]
    path, box = models["qwen3moe"], machine(*software_gpus(2))
    command = read_command(["llama-server", "-m", str(path), *words])
    found = find_companions(command.others, sources_of(read_settings()))
    with open_companions(found, engine, read_settings(), box) as opened:
        verdict = check_configuration(
            command.configuration, open_path(path).model, box, simulators, str(path), opened
        )
    assert verdict.fit.is_placed
    log = load((str(vulkan_engine.path), "-m", str(path), *words, *WARM), TWO_GPUS, LOADED)
    assert re.findall(r"offloaded (\d+)/13", log) == [str(verdict.question.n_gpu_layers)]
    rows = compare_load(verdict.ledger, parse_load_log(log))
    gaps = {row.where: (row.planned_bytes - row.logged_bytes) / MIB for row in rows}
    assert not {where: gap for where, gap in gaps.items() if abs(gap) > ROUNDING_MIB}


def check(engine: Engine, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return launcher("check", *words, timeout_s=120, LAUNCHER_ENGINE=str(engine.path), **variables)


@pytest.mark.engine
def test_kimi_on_two_h100_with_half_of_its_experts_on_the_host(engine: Engine, tmp_path: Path) -> None:
    """The command people paste: it fills the second card alone. The planner's flags for the same wish do fit."""
    path = make_gguf(tmp_path / "kimi.gguf", "deepseek2", preset="kimi-k2.5", hollow=True)[0]
    pasted = f"llama-server -m {path} -ngl 99 --n-cpu-moe 30 -c 32768 --no-mmap -fa --temp 0.6 --port 9000"
    done = check(engine, "--machine", "2xh100-80g", "--json", "--", *pasted.split())
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    assert document["basis"] == "estimated"  # what the backends take; the rest is not:
    assert {row["basis"]["weights"] for row in document["devices"]} == {"simulated"}
    assert [failure["where"] for failure in document["failures"]] == ["CUDA1"]
    assert document["failures"][0]["stage"] == "weights"
    assert [layer["n_expert_blocks"] for layer in document["layers"]] == [1, 30, 29]
    assert any("mostly CUDA0's" in reason for reason in document["reasons"])
    assert document["notes"] == [
        "--no-mmap is gone: it is --load-mode none now",
        "-fa needs a value now: -fa on",
    ]

    argv = document["instead"]["argv"]
    assert argv[:3] == ["llama-server", "-m", str(path)]
    given = {name: words[-1] for name, words in split_flags(argv[1:])}
    assert (given["-c"], given["-np"], given["--temp"], given["--port"]) == ("32768", "4", "0.6", "9000")
    again = check(engine, "--machine", "2xh100-80g", "--json", "--", *argv)
    assert again.returncode == 0, again.stdout[-2000:]
    fits = json.loads(again.stdout)
    assert (fits["fits"], fits["notes"], fits["instead"]) == (True, [], None)
    assert fits["devices"] == document["instead"]["devices"]


@pytest.mark.engine
def test_a_repo_is_checked_by_its_headers(engine: Engine, models: dict[str, Path]) -> None:
    """All of the cache on one of two cards does not fit; the flags that do name the repo as it was typed."""
    with FakeHub() as hub:
        hub.publish("maker/M-GGUF", {"M-Q4_0.gguf": models["qwen3moe"], "M-Q8_0.gguf": b"no header is read"})
        line = "CUDA_VISIBLE_DEVICES=1,0 llama-server -hf maker/M-GGUF:Q4_0 -c 524288 -np 1 -ts 1,0 --jinja"
        bought = ("--gpu", "3060:2", "--ram", "32G")
        done = check(engine, *bought, "--json", "--", *line.split(), HF_ENDPOINT=hub.url)
        fetched = hub.asked("storage", "GET")
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    assert document["failures"][0] | {"missing_bytes": 0} == {
        "where": "CUDA0",
        "stage": "kv",
        "missing_bytes": 0,
    }
    assert [layer["n_layers"] for layer in document["layers"]] == [13, 0, 0]
    assert document["notes"] == []
    argv = document["instead"]["argv"]
    assert argv[:3] == ["llama-server", "-hf", "maker/M-GGUF:Q4_0"]
    assert "--jinja" in argv
    assert fetched
    assert all(request.range for request in fetched)


@pytest.mark.engine
def test_the_projector_in_a_repo_is_counted_unless_it_is_switched_off(
    engine: Engine, models: dict[str, Path], beside: list[str]
) -> None:
    projector = Path(beside[1])
    with FakeHub() as hub:
        hub.publish("maker/V-GGUF", {"V-Q4_0.gguf": models["qwen3moe"], "mmproj-F16.gguf": projector})
        line = ("llama-server", "-hf", "maker/V-GGUF:Q4_0", "-c", "4096")
        bought = ("--gpu", "3060", "--ram", "32G", "--json", "--")
        unasked, named, without = (
            json.loads(check(engine, *bought, *line, *more, HF_ENDPOINT=hub.url).stdout)
            for more in ((), ("-mm", str(projector)), ("--no-mmproj",))
        )
    assert unasked["notes"] == without["notes"] == []
    assert unasked["devices"] == named["devices"]
    assert unasked["devices"] != without["devices"]


@pytest.mark.engine
def test_companions_are_counted_wherever_they_are(
    engine: Engine, models: dict[str, Path], beside: list[str]
) -> None:
    """As files, as a URL and a repo of which only headers are read, and by variables before the program."""
    model, bought = models["qwen3moe"], ("--gpu", "3060:2", "--ram", "32G", "--json", "--")
    _, projector, _, draft, *drafting = beside
    line = ("llama-server", "-m", str(model), "-c", "8192", "-np", "2", *drafting)
    with FakeHub() as hub, serve_ranges() as server:
        hub.publish("maker/D-GGUF", {"D-BF16.gguf": b"no header is read", "D-Q8_0.gguf": Path(draft)})
        server.files["mm.gguf"] = Path(projector).read_bytes()
        url = f"{server.url}/mm.gguf"
        commands = (
            (*line, *beside[:4]),
            (*line, "-hfd", "maker/D-GGUF", "--mmproj-url", url),
            (f"LLAMA_ARG_MMPROJ={projector}", f"LLAMA_ARG_SPEC_DRAFT_MODEL={draft}", *line),
            (f"LLAMA_ARG_MMPROJ_URL={url}", "LLAMA_ARG_SPEC_DRAFT_HF_REPO=maker/D-GGUF", *line),
            line,
        )
        runs = [check(engine, *bought, *command, HF_ENDPOINT=hub.url) for command in commands]
        asked = hub.asked("storage", "GET")
    assert [run.returncode for run in runs] == [0] * 5, runs
    first, *others, alone = (json.loads(run.stdout) for run in runs)
    assert all(document["notes"] == [] for document in (first, *others))
    assert all(document["devices"] == first["devices"] for document in others)
    assert alone["devices"] != first["devices"]
    assert asked
    assert all(request.range for request in asked)


@pytest.mark.engine
def test_flags_alone_and_what_a_person_reads(engine: Engine, models: dict[str, Path]) -> None:
    path = str(models["qwen3moe"])
    bought = ("--gpu", "3060", "--ram", "32G")
    fits = check(engine, path, *bought, "--", "-c", "4096", "-ngl", "99", "-cram", "0")
    assert fits.returncode == 0, fits.stderr
    assert re.search(r"^fits +yes *$", fits.stdout, re.MULTILINE)
    assert "these flags fit" not in fits.stdout
    quoted = check(engine, *bought, f"llama-server -m {path} -c 4096 -cram 0")
    assert quoted.returncode == 0, quoted.stderr
    other = check(engine, path, *bought, "--", "llama-server", "-m", "/elsewhere/m.gguf", "-cram", "99999")
    assert other.returncode == 3
    assert re.search(
        r"^fits +no: host is .* short, later, when the prompt cache fills *$", other.stdout, re.MULTILINE
    )


@pytest.mark.engine
def test_a_line_that_fits_and_would_not_start(engine: Engine, models: dict[str, Path]) -> None:
    path = str(models["qwen3moe"])
    pasted = f"llama-server -m {path} -fa -ngl 99 -c 4096 -cram 0 --no-mmap --mlock --fooo 3"
    bought = ("--gpu", "3060", "--ram", "32G")
    done = check(engine, *bought, "--json", "--", *pasted.split())
    document = json.loads(done.stdout)
    assert (done.returncode, document["fits"], document["starts"]) == (3, True, False)
    assert [sentence.split()[0] for sentence in document["refused"][:3]] == ["-fa", "--no-mmap", "--mlock"]
    right = f"llama-server -m {path} -fa on -ngl 99 -c 4096 -cram 0 --load-mode mlock"
    assert document["corrected"] == right.split()
    again = check(engine, *bought, "--json", "--", *document["corrected"])
    fits = json.loads(again.stdout)
    assert (again.returncode, fits["starts"], fits["refused"], fits["corrected"]) == (0, True, [], None)
    assert fits["devices"] == document["devices"]
    seen = check(engine, *bought, "--", *pasted.split())
    assert re.search(
        r"^fits +yes, but llama-server \w+ would not start with this line", seen.stdout, re.MULTILINE
    )
    assert "these flags start:" in seen.stdout


@pytest.mark.engine
@pytest.mark.parametrize(
    ("line", "cured"),
    [
        ("-ctv q8_0 -fa off", {"-ctv": "q8_0", "-fa": "on"}),
        ("--mmproj MODEL --jinja", {"--jinja": "--jinja", "--mmproj": None, "-mm": None}),
    ],
)
def test_what_llama_cpp_would_not_load_is_cured(
    line: str, cured: dict[str, str | None], engine: Engine, models: dict[str, Path]
) -> None:
    path = str(models["qwen3moe"])
    words = f"llama-server -m {path} -c 4096 -cram 0 {line.replace('MODEL', path)}".split()
    done = check(engine, "--gpu", "3060", "--ram", "32G", "--json", "--", *words)
    document = json.loads(done.stdout)
    assert (done.returncode, document["fits"], document["starts"]) == (3, False, True)
    assert document["refusal"] not in document["notes"]
    given = {name: words[-1] for name, words in split_flags(document["instead"]["argv"][1:])}
    assert {name: given.get(name) for name in cured} == cured


@pytest.mark.engine
def test_what_fits_instead_has_room_for_the_draft_model(
    engine: Engine, models: dict[str, Path], beside: list[str]
) -> None:
    """The model fills its card alone; the draft model is sent to the other. A file that is elsewhere is no yes."""
    flags = f"-c 32768 -np 1 -dev CUDA0 -devd CUDA1 -cram 0 {' '.join(beside[2:])}"
    gpus = ("--gpu", "3060:2", "--ram", "32G")
    line = f"{flags} --mmproj /elsewhere/mm.gguf".split()
    fits = check(engine, str(models["qwen3moe"]), *gpus, "--json", "--", *line)
    assert fits.returncode == 5, fits.stderr
    document = json.loads(fits.stdout)
    assert (document["fits"], document["verdict"]) == (None, "unverified")
    assert [row["id"] for row in document["devices"]] == ["CUDA0", "CUDA1"]
    assert [note.partition(": ")[0] for note in document["notes"]] == ["--mmproj /elsewhere/mm.gguf"]

    line = [*flags.replace("32768", "524288").split(), "-fit", "off"]
    short = check(engine, str(models["qwen3moe"]), *gpus, "--json", "--", *line)
    assert short.returncode == 3, short.stderr
    document = json.loads(short.stdout)
    argv = document["instead"]["argv"]
    given = {name: words[-1] for name, words in split_flags(argv[1:])}
    assert (given["-dev"], given["-devd"], given["-md"]) == ("CUDA0", "CUDA1", beside[3])
    again = check(engine, str(models["qwen3moe"]), *gpus, "--json", "--", *argv)
    assert again.returncode == 0, again.stdout[-2000:]
    assert json.loads(again.stdout)["devices"] == document["instead"]["devices"]


@pytest.mark.engine
def test_mistakes_are_two_lines(engine: Engine) -> None:
    for words, code, hint in (
        ((), 2, "launcher check -- llama-server"),
        (("--", "llama-server", "-c", "4096"), 2, "add -m FILE"),
        (("--", "llama-server", "-m", "nowhere.gguf"), 4, "launcher check REF --"),
        (("--", "llama-server", "-m", "x.gguf", "-c", "many"), 2, "launcher engine info"),
    ):
        done = check(engine, *words)
        assert (done.returncode, done.stdout) == (code, ""), words
        error, hinted = done.stderr.splitlines()
        assert error.startswith("error: ")
        assert hint in hinted
