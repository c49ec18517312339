"""What each flag settles about memory."""

from __future__ import annotations

import pytest

from launcher.engine.flags.command_line import read_command
from launcher.engine.flags.memory_flags import HANDLERS
from launcher.engine.flags.memory_names import MEMORY_VARIABLES, OTHER_SPELLINGS
from launcher.engine.flags.pinned_flags import PINNED_ARITIES, REMOVED_FLAGS
from launcher.errors import UsageError
from launcher.plan.amounts import HOST
from launcher.plan.check.configuration import WHOLE_CONTEXT, Configuration
from launcher.plan.expert_pattern import EXPERTS, matched_names
from launcher.plan.modes import (
    CacheType,
    FlashAttention,
    LazyMode,
    LoadMode,
    Pooling,
    SplitMode,
    TensorOverride,
)
from launcher.units import GIB, MIB
from tests.engine.flags.captured_help import OLDER, PINNED_OPTIONS


def settled(line: str) -> Configuration:
    return read_command([f"llama-server {line}"]).configuration


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
        ("--ctx_size 0", {"ctx_size": 0, "fit_ctx": WHOLE_CONTEXT}),
        ("-c 0 -fitc 2048", {"ctx_size": 0, "fit_ctx": 2048}),
        ("--fit-target 512", {"fit_targets": (512 * MIB,) * 16}),
        ("-fitt 512,2048", {"fit_targets": (512 * MIB, 2048 * MIB)}),
        ("-fitt 1/0", {"fit_targets": (MIB, 0)}),
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
        ("-lm mmap+mlock", {"load_mode": LoadMode.MMAP, "locks_pages": True}),
        ("-lzm on", {"lazy_mode": LazyMode.ON}),
        ("--no-mmap", {"load_mode": LoadMode.NONE}),
        ("--mlock", {"load_mode": LoadMode.MMAP, "locks_pages": True}),
        ("--no-mmap --mlock", {"load_mode": LoadMode.MLOCK}),
        ("-cram 512", {"cache_ram_bytes": 512 * MIB, "cache_ram_given": True}),
        ("--cache-ram -1", {"cache_ram_bytes": None, "cache_ram_given": True}),
        ("--swa-checkpoints 3", {"ctx_checkpoints": 3}),
        ("-fit off", {"fit": False}),
        ("--embeddings", {"embedding": True, "batch_size": 512}),
        ("-c 1 -c 2", {"ctx_size": 2}),
        ("-c 2147483647", {"ctx_size": 2147483647}),
        ("-cram 0", {"cache_ram_bytes": 0, "cache_ram_given": True}),
        ("--pooling none", {"pooling": Pooling.NONE}),
        ("--embeddings --pooling none", {"embedding": True, "pooling": Pooling.NONE, "batch_size": 512}),
        ("--rerank", {"embedding": True, "pooling": Pooling.RANK, "batch_size": 512}),
        ("--pooling mean", {"pooling": Pooling.MEAN}),
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


@pytest.mark.parametrize("value", ["2147483648", "-1"])
def test_a_number_beyond_a_c_int_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=f"llama-server would not take -c {value}"):
        settled(f"-c {value}")


def test_fit_targets_are_for_fewer_devices_than_llama_cpp_has_at_most() -> None:
    assert settled(f"-fitt {','.join(['1'] * 15)}").fit_targets == (MIB,) * 15
    with pytest.raises(UsageError):
        settled(f"-fitt {','.join(['1'] * 16)}")
