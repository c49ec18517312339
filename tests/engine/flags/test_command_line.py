"""Command lines as people paste them, and what llama-server would make of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.engine.flags.command_line import arities_of, read_command
from launcher.engine.flags.help_text import parse_help
from launcher.engine.flags.memory_flags import HANDLERS, MEMORY_VARIABLES, OTHER_SPELLINGS
from launcher.engine.flags.pinned_flags import PINNED_ARITIES, REMOVED_FLAGS
from launcher.errors import UsageError
from launcher.plan.amounts import HOST
from launcher.plan.check.configuration import Configuration
from launcher.plan.expert_pattern import EXPERTS, matched_names
from launcher.plan.modes import CacheType, FlashAttention, LoadMode, SplitMode, TensorOverride
from launcher.units import GIB, MIB

CAPTURES = Path(__file__).parents[2] / "captures/engine"
PINNED_OPTIONS = parse_help((CAPTURES / "help-0c1e570.txt").read_text(encoding="utf-8"))
OLDER = arities_of(parse_help((CAPTURES / "help-7e4c0a9.txt").read_text(encoding="utf-8")))


def settled(line: str) -> Configuration:
    return read_command([f"llama-server {line}"]).configuration


def test_the_table_is_the_pinned_engines_help() -> None:
    assert arities_of(PINNED_OPTIONS) == PINNED_ARITIES


def test_flags_that_are_gone_are_gone_and_what_replaced_them_is_there() -> None:
    assert not set(REMOVED_FLAGS) & set(PINNED_ARITIES)
    replacements = {now.split()[0] for _, now in REMOVED_FLAGS.values()} - {"nothing:"}
    assert replacements <= set(PINNED_ARITIES)


def test_every_spelling_and_variable_of_a_memory_flag_is_the_engines() -> None:
    spellings = {spelling for name, others in OTHER_SPELLINGS.items() for spelling in (name, *others)}
    assert not spellings - set(PINNED_ARITIES) - set(REMOVED_FLAGS) - set(OLDER)
    assert not set(HANDLERS) - set(PINNED_ARITIES) - set(REMOVED_FLAGS) - set(OLDER)
    by_variable = {option.env: option.spellings for option in PINNED_OPTIONS if option.env}
    assert all(name in by_variable[variable] for variable, name in MEMORY_VARIABLES.items())


def test_a_bare_server_has_four_slots_over_one_pool() -> None:
    assert settled("-m m.gguf") == Configuration()
    assert (settled("").n_parallel, settled("").kv_unified, settled("").ctx_size) == (4, True, None)


@pytest.mark.parametrize(
    ("line", "slots", "shared"),
    [
        ("-np 4", 4, False),
        ("-np 4 -kvu", 4, True),
        ("-np 1", 1, False),
        ("--parallel -1", 4, True),
        ("-np -1 -no-kvu", 4, True),
        ("-kvu --parallel 2", 2, True),
        ("--kv-unified --no-kv-unified -np 2", 2, False),
    ],
)
def test_slots_and_their_pool(line: str, slots: int, *, shared: bool) -> None:
    found = settled(line)
    assert (found.n_parallel, found.kv_unified) == (slots, shared)


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("-c 8192 -b 4096 -ub 1024", {"ctx_size": 8192, "batch_size": 4096, "ubatch_size": 1024}),
        ("--ctx_size 0", {"ctx_size": 0}),
        ("-ctk q8_0 --cache-type-v q4_0", {"cache_type_k": CacheType.Q8_0, "cache_type_v": CacheType.Q4_0}),
        ("-fa on", {"flash_attn": FlashAttention.ON}),
        ("-fa 1", {"flash_attn": FlashAttention.ON}),
        ("-fa off", {"flash_attn": FlashAttention.OFF}),
        ("-fa -1", {"flash_attn": FlashAttention.AUTO}),
        ("-ngl 99", {"n_gpu_layers": 99, "layers_given": True}),
        ("--n-gpu-layers all", {"n_gpu_layers": None, "layers_given": True}),
        ("--gpu-layers auto", {"n_gpu_layers": None, "layers_given": False}),
        ("-ngl 0", {"n_gpu_layers": 0, "layers_given": True}),
        ("-ts 3,1", {"tensor_split": (3.0, 1.0)}),
        ("-ts 0.5/1.5", {"tensor_split": (0.5, 1.5)}),
        ("-sm none -mg 1", {"split_mode": SplitMode.NONE, "main_gpu": 1}),
        ("-dev CUDA1,CUDA0", {"devices": ("CUDA1", "CUDA0")}),
        ("--device none", {"devices": ()}),
        ("-nkvo --no-op-offload --no-host", {"kv_offload": False, "op_offload": False, "no_host": True}),
        ("--swa-full", {"swa_full": True}),
        ("-lm none", {"load_mode": LoadMode.NONE}),
        ("-lm auto", {"load_mode": None}),
        ("-lm dio", {"load_mode": LoadMode.NONE}),
        ("-lm mmap+mlock", {"load_mode": LoadMode.MMAP}),
        ("--no-mmap", {"load_mode": LoadMode.NONE}),
        ("--mlock", {"load_mode": LoadMode.MMAP}),
        ("--no-mmap --mlock", {"load_mode": LoadMode.MLOCK}),
        ("-cram 512", {"cache_ram_bytes": 512 * MIB, "cache_ram_given": True}),
        ("--cache-ram -1", {"cache_ram_bytes": None, "cache_ram_given": True}),
        ("--swa-checkpoints 3", {"ctx_checkpoints": 3}),
        ("-fit off", {"fit": False}),
        ("--embeddings", {"all_outputs": True, "batch_size": 512}),
        ("-c 1 -c 2", {"ctx_size": 2}),
    ],
)
def test_what_a_flag_settles(line: str, changed: dict[str, object]) -> None:
    usual = {"cache_ram_bytes": 8 * GIB}
    expected = Configuration(**{**usual, **changed})  # type: ignore[arg-type]
    assert settled(line) == expected


def test_overrides_add_up_in_their_order() -> None:
    found = settled(
        r"-ot 'blk\.1\.=CUDA1,exps=CPU' -ncmoe 2 --override-tensor a=CPU -ncffn 1 -cmoe"
    ).overrides
    assert found == (
        TensorOverride(pattern=r"blk\.1\.", where="CUDA1"),
        TensorOverride(pattern="exps", where=HOST),
        TensorOverride(pattern=r"blk\.([01])" + EXPERTS, where=HOST),
        TensorOverride(pattern="a", where=HOST),
        TensorOverride(pattern=r"blk\.(0)\.ffn_(up|down|gate)\.", where=HOST),
        TensorOverride(pattern=EXPERTS, where=HOST),
    )


def test_more_blocks_than_any_model_has() -> None:
    (override,) = settled("-ncmoe 999").overrides
    names = [f"blk.{block}.ffn_up_exps.weight" for block in (0, 9, 10, 99, 100, 511, 512)]
    assert matched_names(override.pattern, names) == tuple(names[:-1])


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


def test_words_and_one_quoted_string_are_the_same() -> None:
    words = ["CUDA_VISIBLE_DEVICES=1", "llama-server", "-m", "a b.gguf", "-c", "4096", "--jinja"]
    quoted = "CUDA_VISIBLE_DEVICES=1 llama-server \\\n  -m 'a b.gguf' -c 4096 \\\n  --jinja"
    assert read_command([quoted]) == read_command(words)
    assert read_command(words).variables == (("CUDA_VISIBLE_DEVICES", "1"),)
    assert read_command(words).others == ("--jinja",)


@pytest.mark.parametrize(
    "line",
    [
        "export CUDA_VISIBLE_DEVICES=0; cd ~/x && ./llama-server -m a.gguf -c 8 # 8 tokens",
        "CUDA_VISIBLE_DEVICES=0 nohup ./llama-server -m a.gguf -c 8 > log.txt 2>&1 &",
        "export CUDA_VISIBLE_DEVICES=0\n# start\n./llama-server -m a.gguf \\\n -c 8\ncurl localhost:8080",
        "CUDA_VISIBLE_DEVICES=0 sudo -E ./llama-server -m a.gguf 2>/dev/null -c 8; echo done",
        "CUDA_VISIBLE_DEVICES=0 ./llama-server -m a.gguf -c 8 >>log&",
        "CUDA_VISIBLE_DEVICES=0 ./llama-server -m a.gguf -c 8 || echo 'it -m failed'",
    ],
)
def test_the_command_is_taken_out_of_a_shells_line(line: str) -> None:
    read = read_command([line])
    plain = read_command(["CUDA_VISIBLE_DEVICES=0", "./llama-server", "-m", "a.gguf", "-c", "8"])
    assert read == plain


def test_quotes_keep_what_a_shell_would_read() -> None:
    line = """llama-server -m 'a #1.gguf' -ot "blk\\.(1|2) = CPU" --alias a\\;b --api-prefix /x#y -c 8"""
    read = read_command([line])
    assert (read.model, read.configuration.ctx_size) == ("./a #1.gguf", 8)
    assert (dict(read.address), read.others) == ({"--alias": "a;b"}, ("--api-prefix", "/x#y"))


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


def test_another_program_is_named() -> None:
    with pytest.raises(UsageError, match="'ollama' is neither"):
        read_command(["ollama", "run", "x"])


def test_what_is_not_in_the_ledger_is_noted() -> None:
    notes = read_command(["llama-server -hf a/b --lora x"]).notes
    assert [note.partition(":")[0] for note in notes] == [
        "--lora x",
        "a projector (mmproj) in the repo is loaded too and not in the ledger",
    ]
    assert read_command(["llama-server -hf a/b --no-mmproj"]).notes == ()


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
