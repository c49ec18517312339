"""Command lines as people paste them, and what llama-server would make of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.engine.flags.command_line import read_command
from launcher.engine.flags.ik_flags import IK_ALONE
from launcher.engine.flags.pinned_flags import PINNED_ARITIES, REMOVED_FLAGS
from launcher.errors import UsageError
from launcher.plan.check.configuration import Configuration
from launcher.plan.modes import Dialect, LoadMode
from tests.engine.flags.captured_help import OLDER


def settled(line: str) -> Configuration:
    return read_command([f"llama-server {line}"]).configuration


@pytest.mark.parametrize(
    ("line", "model"),
    [
        ("llama-server -m a.gguf", "./a.gguf"),
        ("llama-server --model /models/a b.gguf", "/models/a"),
        ("./build/bin/llama-server -m ~/a.gguf", "~/a.gguf"),
        ("llama-server -hf ggml-org/x-GGUF:Q8_0", "hf:ggml-org/x-GGUF:Q8_0"),
        ("llama-server -hf ggml-org/x-GGUF:Q8_0 -hff y.gguf", "hf:ggml-org/x-GGUF/y.gguf"),
        ("llama-server -mu https://host/a.gguf -m here.gguf", "https://host/a.gguf"),
        ("llama serve -m ../a.gguf", "../a.gguf"),
        ("-m a.gguf -ngl 3", "./a.gguf"),
        ("LLAMA_ARG_MODEL=a.gguf llama-server", "./a.gguf"),
        (
            "docker run --gpus all -p 8080:8080 ghcr.io/ggml-org/llama.cpp:server-cuda -m /m/a.gguf",
            "/m/a.gguf",
        ),
        ("sudo numactl --interleave=all llama-server -m a.gguf 2>&1 | tee log", "./a.gguf"),
        ("llama-server --port 80", None),
        ("export A=0; cd ~/llama.cpp && ./llama-server -m a.gguf > log.txt 2>&1 &", "./a.gguf"),
    ],
)
def test_which_model_it_names(line: str, model: str | None) -> None:
    assert read_command([line]).model == model


@pytest.mark.parametrize(
    ("line", "corrected"),
    [
        ("--no-mmap --mlock -c 8", "-c 8 --load-mode mlock"),
        ("--mlock -c 8", "-c 8 --load-mode mmap+mlock"),
        ("-c 8 --no-mmap", "-c 8 --load-mode none"),
        ("-fa -ngl 99", "-fa on -ngl 99"),
        ("--fooo 3 -c 8 stray", "-c 8"),
        ("--ctx-size=8 --draft-max 4 -cd 99", "--ctx-size 8 --spec-draft-n-max 4"),
    ],
)
def test_the_flags_as_this_llama_server_takes_them(line: str, corrected: str) -> None:
    read = read_command([f"llama-server -m a.gguf {line}"])
    assert read.corrected == ("-m", "a.gguf", *corrected.split())
    again = read_command(["llama-server", *read.corrected])
    assert (again.refused, again.configuration) == ((), read.configuration)


def test_flags_win_over_variables() -> None:
    found = settled("-c 100")
    line = "LLAMA_ARG_CTX_SIZE=9 LLAMA_ARG_N_GPU_LAYERS=7 LLAMA_ARG_KV_UNIFIED=1 llama-server -c 100 -np 2"
    told = read_command([line]).configuration
    assert (told.ctx_size, told.n_gpu_layers, told.kv_unified) == (found.ctx_size, 7, True)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--frobnicate", "llama-server has no flag --frobnicate"),
        ("--frobnicate -c 3", "llama-server has no flag --frobnicate"),
        ("-cd 99 -c 3", "-cd is gone: it is nothing: the draft model takes the context of the model"),
        ("--no-mmap", "--no-mmap is gone: it is --load-mode none now"),
        ("--draft-max 8 -c 3", "--draft-max is gone: it is --spec-draft-n-max now"),
        ("-fa", "-fa needs a value now: -fa on"),
        ("-fa -c 3", "-fa needs a value now: -fa on"),
        ("--frobnicate 3 -c 3", "llama-server has no flag --frobnicate"),
        ("--ctx-size=3", "--ctx-size=3: llama-server takes the value as a word of its own, --ctx-size 3"),
        ("--mlock=1", "--mlock=1: llama-server takes the value as a word of its own, --mlock 1"),
        ("-c 3 stray", "'stray' belongs to no flag"),
    ],
)
def test_what_this_llama_server_would_not_take(line: str, sentence: str) -> None:
    read = read_command([f"llama-server {line}"])
    assert sentence in read.refused
    assert read.configuration.ctx_size in {None, 3}


@pytest.mark.parametrize(
    "line", ["--frobnicate -c 3", "--frobnicate 3 -c 3", "-cd 99 -c 3", "-fa -c 3", "--ctx-size=3"]
)
def test_what_it_would_not_take_hides_nothing_else(line: str) -> None:
    read = read_command([f"llama-server {line}"])
    assert len(read.refused) == 1
    assert read.configuration.ctx_size == 3


@pytest.mark.parametrize(
    ("variable", "changed"),
    [
        ("LLAMA_ARG_KV_UNIFIED=1", {"kv_unified": True}),
        ("LLAMA_ARG_KV_UNIFIED=0", {"kv_unified": False}),
        ("LLAMA_ARG_KV_UNIFIED=perhaps", {}),
        ("LLAMA_ARG_KV_OFFLOAD=off", {"kv_offload": False}),
        ("LLAMA_ARG_KV_OFFLOAD=perhaps", {}),
        ("LLAMA_ARG_SWA_FULL=1", {"swa_full": True}),
        ("LLAMA_ARG_SWA_FULL=0", {}),
        ("PATH=/bin", {}),
    ],
)
def test_a_switch_by_its_variable(variable: str, changed: dict[str, bool]) -> None:
    read = read_command([variable, "llama-server", "-np", "2"]).configuration
    assert read == replace(settled("-np 2"), **changed)  # type: ignore[arg-type]


def test_what_only_places_a_fit_is_no_flag_for_the_plan() -> None:
    assert read_command(["llama-server", "-fitt", "512", "--jinja"]).others == ("--jinja",)


def test_a_flag_of_newer_engines_lacks_its_value_on_an_older_one() -> None:
    with pytest.raises(UsageError, match="--kv-unified-per-slot"):
        read_command(["llama-server", "--kv-unified-per-slot"], OLDER)
    read = read_command(["llama-server", "--kv-unified-per-slot", "512", "-c", "8"], OLDER)
    assert (read.configuration.ctx_per_slot, read.configuration.ctx_size) == (512, 8)
    assert read.refused == ("this llama-server has no flag --kv-unified-per-slot",)


def test_an_older_engine_has_its_own_flags() -> None:
    read = read_command(["llama-server", "--no-mmap", "-fa", "on"], OLDER)
    assert read.refused == ()
    assert read.configuration.load_mode is LoadMode.NONE


@pytest.mark.parametrize(
    "line",
    [
        "-c many",
        "-c 99999999999",
        "-ts nan",
        "-ts 1,inf",
        "-ts -1,2",
        "-ts ,",
        "-ngl some",
        "-np 0",
        "-ctk f12",
        "-sm sideways",
        "-ot nothing",
        "-ub 0",
        "-c",
        "-lm fast",
        "'",
    ],
)
def test_what_llama_server_would_refuse_is_a_usage_error(line: str) -> None:
    with pytest.raises(UsageError):
        read_command([f"llama-server {line}"])


def test_what_is_not_in_the_ledger_is_noted() -> None:
    notes = read_command(["llama-server -hf a/b --lora x"]).notes
    assert [note.partition(":")[0] for note in notes] == ["--lora x"]


@pytest.mark.parametrize(
    ("line", "repo"),
    [
        ("-hf a/b:Q4_0", "hf:a/b:Q4_0"),
        ("-hf a/b -hff c.gguf", "hf:a/b/c.gguf"),
        ("-hf a/b --no-mmproj", None),
        ("-hf a/b -mm p.gguf", None),
        ("-m a.gguf", None),
    ],
)
def test_the_repo_whose_projector_is_loaded_unasked(line: str, repo: str | None) -> None:
    assert read_command([f"llama-server {line}"]).repo == repo


@pytest.mark.parametrize(
    ("line", "others"),
    [
        (
            "llama-server -hf a/b --model-draft d.gguf --mmproj p.gguf",
            "--model-draft d.gguf --mmproj p.gguf",
        ),
        ("llama-server -hf a/b -hfd c/d -mmu https://x/p.gguf", "-hfd c/d -mmu https://x/p.gguf"),
        (
            "LLAMA_ARG_MMPROJ=p.gguf LLAMA_ARG_SPEC_DRAFT_HF_REPO=c/d llama-server -m a.gguf -mm q.gguf",
            "--mmproj p.gguf -hfd c/d -mm q.gguf",
        ),
        (
            "LLAMA_ARG_MMPROJ_URL=https://x/p.gguf LLAMA_ARG_MMPROJ_OFFLOAD=0 llama-server -hf a/b",
            "--mmproj-url https://x/p.gguf --no-mmproj-offload",
        ),
        (
            "LLAMA_ARG_SPEC_DRAFT_MODEL=d.gguf LLAMA_ARG_SPEC_DRAFT_CPU_MOE=1 llama-server -m a.gguf",
            "-md d.gguf -cmoed",
        ),
        ("LLAMA_ARG_SPEC_DRAFT_CPU_MOE=0 llama-server -m a.gguf", ""),
    ],
)
def test_companions_by_flag_and_by_variable(line: str, others: str) -> None:
    command = read_command([line])
    assert (command.notes, command.refused) == ((), ())
    assert command.others == tuple(others.split())


WORDS = st.one_of(
    st.sampled_from(
        [*PINNED_ARITIES, *REMOVED_FLAGS, "--x", "-q", "llama-server", "|", "2>&1", "A=b", "--ctx-size=7"]
    ),
    st.sampled_from(["0", "-1", "99", "1,2", "on", "none", "a=CPU,b=CUDA0", "q8_0", "(", "=", ",", "", " "]),
    st.text(max_size=8),
)


@given(words=st.lists(WORDS, max_size=12), quoted=st.booleans())
def test_whatever_is_pasted_is_read_or_refused(*, words: list[str], quoted: bool) -> None:
    pasted = [" ".join(["llama-server", *words])] if quoted else ["llama-server", *words]
    try:
        read = read_command(pasted)
    except UsageError:
        return
    assert read.configuration.n_parallel > 0
    assert len(read.others) <= len(words)


def test_peers_add_up_and_come_from_a_variable_first() -> None:
    line = "LLAMA_ARG_RPC=a:1 llama-server --rpc b:2,c:3 --rpc d:4 -dev RPC1"

    configuration = read_command([line]).configuration
    assert configuration.rpc == ("a:1", "b:2", "c:3", "d:4")
    assert configuration.devices == ("RPC1",)


@pytest.mark.parametrize("flags", ["-dev RPC0 --rpc a:1", "-ot x=RPC0[a:1] --rpc a:1"])
def test_a_peers_device_before_its_rpc_is_refused_and_put_in_order(flags: str) -> None:
    command = read_command([f"llama-server -c 4096 {flags}"])

    (refused,) = command.refused
    assert "comes before --rpc" in refused
    assert command.corrected[:2] == ("--rpc", "a:1")
    assert sorted(command.corrected) == sorted(["-c", "4096", *flags.split()])


@pytest.mark.parametrize("flags", ["-dev CUDA0 --rpc a:1", "--rpc a:1 -dev RPC0"])
def test_other_orders_are_fine(flags: str) -> None:
    assert read_command([f"llama-server {flags}"]).refused == ()


@pytest.mark.parametrize("value", ["a", "[::1]:1", "a:1,,b:2", ""])
def test_peers_that_llama_server_would_not_reach(value: str) -> None:
    with pytest.raises(UsageError, match="--rpc"):
        read_command(["llama-server", "--rpc", value])


def test_a_line_with_ik_llama_cpp_s_own_flags_is_its() -> None:
    line = read_command(["llama-server", "-m", "a.gguf", "-mla", "3", "-fmoe", "-fmoe", "-rtr", "-c", "4096"])
    assert line.dialect is Dialect.IK
    assert line.configuration.ctx_size == 4096
    assert [note for note in line.notes if note.startswith("-mla, -fmoe, -rtr: only ik_llama.cpp has that")]
    assert len(line.refused) == 4
    unknown = read_command(["llama-server", "-m", "a.gguf", "--frobnicate"])
    assert (unknown.dialect, unknown.notes) == (Dialect.LLAMA_CPP, ())


def test_flags_of_ik_llama_cpp_alone_are_none_of_llama_cpp() -> None:
    assert not IK_ALONE & (PINNED_ARITIES.keys() | REMOVED_FLAGS.keys())
