"""Every captured log has its cause. The first line of a capture says where it is from, and the exit status."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launcher.engine.log.cause import CauseKind
from launcher.engine.log.diagnose import diagnose

LOGS = Path(__file__).parents[2] / "captures" / "logs"
MIB = 1 << 20


def capture(name: str) -> tuple[str, int | None]:
    """The log, and the status its process ended with."""
    first, _, log = (LOGS / f"{name}.log").read_text().partition("\n")
    status = re.search(r"; status (-?\d+|unknown)$", first)
    assert status is not None, first
    return log, None if status[1] == "unknown" else int(status[1])


OOM, FILE, FLAG = CauseKind.OUT_OF_MEMORY, CauseKind.BAD_FILE, CauseKind.BAD_FLAG_VALUE
EXPECTED: dict[str, tuple[CauseKind, str]] = {
    "assertion_cell": (
        CauseKind.ASSERTION,
        "llama-server stopped at src/llama.cpp:3504: GGML_ASSERT(cell.has_seq_id(seq_id)) failed",
    ),
    "assertion_embedding_model": (
        CauseKind.ASSERTION,
        'llama-server stopped at src/llama.cpp:16813: GGML_ASSERT(strcmp(res->name, "result_output") == 0 && "missing result_output tensor") failed',
    ),
    "assertion_view": (
        CauseKind.ASSERTION,
        "llama-server stopped at ggml\\src\\ggml.c:1554: GGML_ASSERT(view_src == NULL || data_size == 0 || data_size + view_offs <= ggml_nbytes(view_src)) failed",
    ),
    "compute_without_a_size": (OOM, "llama-server ran out of memory"),
    "cpu_bad_flag_value": (FLAG, "llama-server refuses the value of -ctk: Unsupported cache type: q3_7"),
    "cpu_compute_does_not_fit": (
        OOM,
        "llama-server ran out of memory: it could not allocate 10.2 GiB on CPU",
    ),
    "cpu_ctx_1": (
        CauseKind.ASSERTION,
        "llama-server stopped at /src/llama.cpp/common/common.cpp:2158: get_sub_batch: failed to add token 2 at index 1 (error -1, n = 2)",
    ),
    "cpu_empty_file": (FILE, "the model file's header is damaged: failed to read magic"),
    "cpu_header_cut": (FILE, "the model file's header is damaged: failed to read key-value pairs"),
    "cpu_killed_in_cgroup": (
        CauseKind.KILLED,
        "llama-server was killed by signal 9, as the kernel does when memory runs out",
    ),
    "cpu_kv_does_not_fit": (OOM, "llama-server ran out of memory: it could not allocate 21.5 GiB on CPU"),
    "cpu_kv_old": (OOM, "llama-server ran out of memory: it could not allocate 128.0 GiB"),
    "cpu_missing_library": (
        CauseKind.MISSING_LIBRARY,
        "llama-server needs the shared library libllama-server-impl.so, which is not there",
    ),
    "cpu_missing_shard": (
        FILE,
        "the model file /models/deepseek2-mini-3-00003-of-00003.gguf cannot be opened: No such file or directory",
    ),
    "cpu_missing_tensor": (
        FILE,
        "the model file does not have the tensors this llama-server expects: check_tensor_dims: tensor 'blk.7.attn_q.weight' not found",
    ),
    "cpu_mla_cache_types": (
        CauseKind.UNSUPPORTED,
        "llama-server refuses these settings: model does not support different K (q8_0) and V (f16) cache types",
    ),
    "cpu_mmap_does_not_fit": (OOM, "llama-server ran out of memory"),
    "cpu_no_file": (FILE, "the model file /models/absent.gguf cannot be opened: No such file or directory"),
    "cpu_no_key_file": (
        FLAG,
        "llama-server refuses the value of --api-key-file: error: failed to open file '/models/nokeys'",
    ),
    "cpu_no_lora": (FILE, "the adapter /models/absent-lora.gguf cannot be loaded"),
    "cpu_no_mmproj": (
        FILE,
        "the model file /models/absent-mmproj.gguf cannot be opened: No such file or directory",
    ),
    "cpu_not_gguf": (FILE, "the model file is not a GGUF file: it does not begin with GGUF"),
    "cpu_port_taken": (CauseKind.PORT_IN_USE, "port 34937 on 127.0.0.1 was taken by another process"),
    "cpu_rpc_killed": (CauseKind.RPC_LOST, "an RPC peer was lost: it crashed, or its network failed"),
    "cpu_rpc_unreachable": (CauseKind.RPC_LOST, "the RPC peer 127.0.0.1:9 does not answer"),
    "cpu_second_shard": (
        FILE,
        "/models/deepseek2-mini-3-00002-of-00003.gguf is not the first part of the model",
    ),
    "cpu_template_error": (
        CauseKind.TEMPLATE,
        "llama-server cannot read the model's chat template: Expected }} (Got )",
    ),
    "cpu_truncated": (FILE, "the model file is incomplete: tensor token_embd.weight lies beyond its end"),
    "cpu_truncated_shard": (
        FILE,
        "the model file is incomplete: tensor blk.6.ffn_down_exps.weight lies beyond its end",
    ),
    "cpu_unknown_architecture": (
        CauseKind.UNKNOWN_ARCHITECTURE,
        "this llama-server does not know the model architecture llamb",
    ),
    "cpu_unknown_device": (FLAG, "llama-server refuses the value of -dev: invalid device: CUDA3"),
    "cpu_unknown_flag": (CauseKind.UNKNOWN_FLAG, "this llama-server does not know --no-mmap-please"),
    "cpu_v_cache_needs_fa": (
        CauseKind.UNSUPPORTED,
        "llama-server refuses these settings: quantized V cache requires flash_attn to be enabled",
    ),
    "cpu_weights_do_not_fit": (
        OOM,
        "llama-server ran out of memory: it could not allocate 189.0 MiB on CPU_REPACK",
    ),
    "cuda_compute_small_card": (
        OOM,
        "llama-server ran out of memory: it could not allocate 144.0 MiB on device 4",
    ),
    "cuda_driver_combination": (
        CauseKind.DRIVER,
        "the GPU's driver does not suit this llama-server: system has unsupported display driver / cuda driver combination",
    ),
    "cuda_driver_too_old": (
        CauseKind.DRIVER,
        "the GPU's driver does not suit this llama-server: CUDA driver version is insufficient for CUDA runtime version",
    ),
    "cuda_illegal_access": (
        CauseKind.DEVICE_LOST,
        "the GPU stopped working for llama-server (CUDA error: an illegal memory access was encountered)",
    ),
    "cuda_illegal_access_new": (
        CauseKind.DEVICE_LOST,
        "the GPU stopped working for llama-server (CUDA error: an illegal memory access was encountered)",
    ),
    "cuda_no_kernel_image": (
        CauseKind.DRIVER,
        "this llama-server was not built for the compute capability of the GPU",
    ),
    "cuda_no_kernel_image_old": (
        CauseKind.DRIVER,
        "this llama-server was not built for the compute capability of the GPU",
    ),
    "cuda_pinned_invalid": (
        CauseKind.PINNED_MEMORY,
        "the driver refused 1.9 GiB of page-locked memory on the host",
    ),
    "cuda_pinned_no_device": (
        CauseKind.DRIVER,
        "the GPU's driver does not suit this llama-server: no CUDA-capable device is detected",
    ),
    "cuda_pinned_out_of_memory": (
        CauseKind.PINNED_MEMORY,
        "the driver refused 341.5 GiB of page-locked memory on the host",
    ),
    "cuda_retried_and_running": (CauseKind.KILLED, "llama-server was ended by signal 15 (SIGTERM)"),
    "cuda_retried_in_vain": (
        OOM,
        "llama-server ran out of memory: it could not allocate 12.4 GiB on device 0, with 12.0 GiB taken there before",
    ),
    "cuda_unknown_error": (CauseKind.DRIVER, "the GPU's driver could not be initialised: unknown error"),
    "cuda_weights": (OOM, "llama-server ran out of memory: it could not allocate 141.4 GiB on device 0"),
    "cuda_weights_ollama": (
        OOM,
        "llama-server ran out of memory: it could not allocate 34.7 GiB on device 0",
    ),
    "illegal_instruction": (
        CauseKind.UNSUPPORTED,
        "llama-server was built for another processor: it met an instruction this one lacks",
    ),
    "killed_under_systemd": (
        CauseKind.KILLED,
        "llama-server was killed by signal 9, as the kernel does when memory runs out",
    ),
    "metal_out_of_memory": (OOM, "llama-server ran out of memory, with 11.5 GiB taken there before"),
    "missing_library_cudart": (
        CauseKind.MISSING_LIBRARY,
        "llama-server needs the shared library libcudart.so.12, which is not there",
    ),
    "missing_tensor_new_model": (
        FILE,
        "the model file does not have the tensors this llama-server expects: missing tensor 'blk.40.ssm_conv1d.weight'",
    ),
    "rocm_compute": (OOM, "llama-server ran out of memory: it could not allocate 13.8 GiB on device 0"),
    "rocm_pool_at_work": (OOM, "llama-server ran out of memory"),
    "rpc_lost_in_load": (CauseKind.RPC_LOST, "an RPC peer was lost: it crashed, or its network failed"),
    "rpc_malformed_response": (CauseKind.RPC_LOST, "an RPC peer was lost: it crashed, or its network failed"),
    "rpc_old_assertion": (CauseKind.RPC_LOST, "an RPC peer was lost: it crashed, or its network failed"),
    "segfault_on_old_hardware": (CauseKind.ASSERTION, "llama-server crashed (segmentation fault)"),
    "template_of_another_dialect": (
        CauseKind.TEMPLATE,
        "llama-server cannot read the model's chat template: Expected block keyword at row 152, column 17:",
    ),
    "vulkan_compute_does_not_fit": (
        OOM,
        "llama-server ran out of memory: it could not allocate 19.3 MiB on Vulkan1, with 142.3 MiB taken there before",
    ),
    "vulkan_device_lost": (
        CauseKind.DEVICE_LOST,
        "the GPU stopped working for llama-server (DeviceLostError)",
    ),
    "vulkan_ik": (OOM, "llama-server ran out of memory: it could not allocate 16.2 GiB"),
    "vulkan_kv_does_not_fit": (
        OOM,
        "llama-server ran out of memory: it could not allocate 768.0 MiB on Vulkan0, with 33.8 MiB taken there before",
    ),
    "vulkan_old_device": (OOM, "llama-server ran out of memory: it could not allocate 113.0 MiB"),
    "vulkan_pinned": (CauseKind.PINNED_MEMORY, "the driver refused page-locked memory on the host"),
    "vulkan_too_large_a_buffer": (OOM, "llama-server ran out of memory: it could not allocate 3.7 GiB"),
    "vulkan_unified": (OOM, "llama-server ran out of memory: it could not allocate 352.7 MiB"),
    "vulkan_weights_do_not_fit": (
        OOM,
        "llama-server ran out of memory: it could not allocate 58.3 MiB on Vulkan1",
    ),
    "wrong_number_of_tensors": (
        FILE,
        "the model file does not have the tensors this llama-server expects: done_getting_tensors: wrong number of tensors; expected 149, got 147",
    ),
}


def test_every_capture_is_expected() -> None:
    assert {path.stem for path in LOGS.glob("*.log")} == set(EXPECTED)
    assert len(EXPECTED) >= 40


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_cause_is_found(name: str) -> None:
    log, status = capture(name)
    cause = diagnose(log, status)
    assert (cause.kind, cause.sentence) == EXPECTED[name]
    assert "\n" not in cause.sentence
    assert not cause.sentence.endswith(".")


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_source_is_named(name: str) -> None:
    first = (LOGS / f"{name}.log").read_text().partition("\n")[0]
    assert re.match(r"# (llama-server 0c1e570|https://github\.com/)", first)


@pytest.mark.parametrize(
    ("name", "where", "part", "need_mib", "had_mib"),
    [
        ("vulkan_weights_do_not_fit", "Vulkan1", "weights", 58.3, None),
        ("vulkan_kv_does_not_fit", "Vulkan0", "kv", 768.0, None),
        ("vulkan_compute_does_not_fit", "Vulkan1", "compute", 19.3, None),
        ("cuda_weights", "CUDA0", "weights", 144817.0, None),
        ("cuda_weights_ollama", "CUDA0", "weights", 35533.3, None),
        ("cuda_retried_in_vain", "CUDA0", "compute", 12710.3, 12327.0),
        ("rocm_compute", "ROCm0", "compute", 14136.0, None),
        ("cpu_kv_does_not_fit", "host", "kv", None, None),
        ("cpu_compute_does_not_fit", "host", "compute", None, None),
        ("cpu_weights_do_not_fit", "host", "weights", None, None),
        ("cpu_kv_old", "host", "kv", 131072.0, None),
        ("metal_out_of_memory", "Metal", None, None, 11747.0),
    ],
)
def test_memory_has_its_ledger_row(
    name: str, where: str, part: str | None, need_mib: float | None, had_mib: float | None
) -> None:
    cause = diagnose(*capture(name))
    assert (cause.where, cause.part) == (where, part)
    if need_mib is not None:
        assert cause.need_bytes is not None
        assert cause.need_bytes / MIB == pytest.approx(need_mib, abs=0.1)
    if had_mib is not None:
        assert cause.had_bytes is not None
        assert cause.had_bytes / MIB == pytest.approx(had_mib, abs=0.1)


def test_the_kernel_s_own_count_tells_a_kill_for_memory() -> None:
    log, status = capture("cpu_killed_in_cgroup")
    cause = diagnose(log, status, by_kernel=True)
    assert (cause.kind, cause.where) == (CauseKind.OUT_OF_MEMORY, "host")
    assert cause.sentence.startswith("the kernel killed llama-server: its memory limit was reached")
    assert diagnose(log, status, by_kernel=False).kind is CauseKind.KILLED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_cause_has_something_to_do(name: str) -> None:
    cause = diagnose(*capture(name))
    no_hint = {CauseKind.KILLED}
    assert cause.remedy or cause.kind in no_hint
