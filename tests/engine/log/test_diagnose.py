"""Captured from llama-server at commit 0c1e570 unless the name says otherwise."""

import pytest

from launcher.engine.log.cause import Cause, CauseKind
from launcher.engine.log.diagnose import diagnose

LOADING = "0.00.006.255 I srv    load_model: loading model 'm.gguf'\n"
GAVE_UP = """\
0.00.017.777 E llama_model_load_from_file_impl: failed to load model
0.00.017.785 E cmn  common_init_: failed to load model 'm.gguf'
0.00.017.794 E srv    load_model: failed to load model, 'm.gguf'
0.00.018.388 E srv  llama_server: exiting due to model loading error
"""
PORT = """\
0.00.002.869 E srv         start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 18998
0.00.002.983 E srv  llama_server: exiting due to HTTP server error
"""
FLAG = "error: invalid argument: --no-such-flag\n"
VALUE = """\
error while handling argument "-ctk": Unsupported cache type: foo

usage:
-ctk,  --cache-type-k TYPE              KV cache data type for K


to show complete usage, run with -h
"""
TRUNCATED = (
    "0.00.017.747 E llama_model_load: error loading model: tensor 'token_embd.weight' data is not within"
    " the file bounds, model is corrupted or incomplete\n"
)
RANDOM = (
    "0.00.004.271 E gguf_init_from_reader: invalid magic characters: '\x1b[2J', expected 'GGUF'\n"
    "0.00.004.393 E llama_model_load: error loading model: llama_model_loader: failed to load model from m\n"
)
SHORT = (
    "0.00.005.519 E gguf_init_from_reader: failed to read key-value pairs\n"
    "0.00.005.652 E llama_model_load: error loading model: llama_model_loader: failed to load model from m\n"
)
MISSING = (
    "0.00.005.363 E gguf_init_from_file: failed to open GGUF file 'm.gguf' (No such file or directory)\n"
    "0.00.005.478 E llama_model_load: error loading model: llama_model_loader: failed to load model from m\n"
)
ARCHITECTURE = "0.00.009.000 E llama_model_load: error loading model: unknown model architecture: 'kimi-k9'\n"
KV = """\
0.00.126.975 E ggml_aligned_malloc: insufficient memory (attempted to allocate 4410.00 MB)
0.00.126.997 E ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 4624220160
0.00.126.998 E alloc_tensor_range: failed to allocate CPU buffer of size 4624220160
0.00.128.038 E llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache
"""
CUDA_FROM_SOURCE = (
    "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 20316.25 MiB on device 1: cudaMalloc failed:"
    " out of memory\n"
)
VULKAN_FROM_SOURCE = (
    "ggml_vulkan: Device memory allocation of size 1073741824 failed.\n"
    "ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory\n"
)
LIBRARY = (
    "/opt/llama-server: error while loading shared libraries: libcuda.so.1: cannot open shared object"
    " file: No such file or directory\n"
)
ASSERTION_FROM_SOURCE = "/src/ggml/src/ggml.c:1234: GGML_ASSERT(ne0 % 32 == 0) failed\n"


@pytest.mark.parametrize(
    ("log", "status", "kind", "sentence"),
    [
        (PORT, 1, CauseKind.PORT_IN_USE, "port 18998 on 127.0.0.1 was taken by another process"),
        (FLAG, 1, CauseKind.UNKNOWN_FLAG, "this llama-server does not know --no-such-flag"),
        (
            VALUE,
            1,
            CauseKind.BAD_FLAG_VALUE,
            "llama-server refuses the value of -ctk: Unsupported cache type: foo",
        ),
        (
            'error while handling argument "--temp": stof\n',
            1,
            CauseKind.BAD_FLAG_VALUE,
            "llama-server refuses the value of --temp: it is not a number that can be used",
        ),
        (
            LOADING + TRUNCATED + GAVE_UP,
            1,
            CauseKind.BAD_FILE,
            "the model file is incomplete: tensor token_embd.weight lies beyond its end",
        ),
        (
            LOADING + RANDOM + GAVE_UP,
            1,
            CauseKind.BAD_FILE,
            "the model file is not a GGUF file: it does not begin with GGUF",
        ),
        (
            LOADING + SHORT + GAVE_UP,
            1,
            CauseKind.BAD_FILE,
            "the model file's header is damaged: failed to read key-value pairs",
        ),
        (
            LOADING + MISSING + GAVE_UP,
            1,
            CauseKind.BAD_FILE,
            "the model file m.gguf cannot be opened: No such file or directory",
        ),
        (
            LOADING + ARCHITECTURE + GAVE_UP,
            1,
            CauseKind.UNKNOWN_ARCHITECTURE,
            "this llama-server does not know the model architecture kimi-k9",
        ),
        (
            LOADING + KV,
            1,
            CauseKind.OUT_OF_MEMORY,
            "llama-server ran out of memory: it could not allocate 4.3 GiB on CPU",
        ),
        (
            CUDA_FROM_SOURCE,
            1,
            CauseKind.OUT_OF_MEMORY,
            "llama-server ran out of memory: it could not allocate 19.8 GiB on device 1",
        ),
        (
            VULKAN_FROM_SOURCE,
            1,
            CauseKind.OUT_OF_MEMORY,
            "llama-server ran out of memory: it could not allocate 1.0 GiB",
        ),
        (
            LIBRARY,
            127,
            CauseKind.MISSING_LIBRARY,
            "llama-server needs the shared library libcuda.so.1, which is not there",
        ),
        (
            ASSERTION_FROM_SOURCE,
            -6,
            CauseKind.ASSERTION,
            "llama-server stopped at /src/ggml/src/ggml.c:1234: GGML_ASSERT(ne0 % 32 == 0) failed",
        ),
        (
            LOADING,
            -9,
            CauseKind.KILLED,
            "llama-server was killed by signal 9, as the kernel does when memory runs out",
        ),
        (LOADING, -15, CauseKind.KILLED, "llama-server was ended by signal 15 (SIGTERM)"),
        (
            LOADING,
            3,
            CauseKind.OTHER,
            "llama-server exited with status 3: load_model: loading model 'm.gguf'",
        ),
        (
            "0.1.2.3 E srv  start: no luck\nbye\n",
            1,
            CauseKind.OTHER,
            "llama-server exited with status 1: start: no luck",
        ),
        ("", 0, CauseKind.OTHER, "llama-server exited with status 0"),
        ("", None, CauseKind.OTHER, "llama-server ended"),
    ],
)
def test_the_cause_is_one_sentence(log: str, status: int | None, kind: CauseKind, sentence: str) -> None:
    cause = diagnose(log, status)
    assert (cause.kind, cause.sentence) == (kind, sentence)


def test_escape_sequences_of_a_log_do_not_reach_the_terminal() -> None:
    shown = diagnose("\x1b[31mbroken\x07\n", 1)
    assert shown == Cause(kind=CauseKind.OTHER, sentence="llama-server exited with status 1: ?[31mbroken?")


@pytest.mark.parametrize(
    ("log", "after", "had"),
    [
        ("", "", None),
        (LOADING, "", None),
        (
            "load_tensors:          CPU model buffer size =  1024.00 MiB\n",
            " after it had taken 1.0 GiB",
            1 << 30,
        ),
    ],
)
def test_the_memory_limit_is_named_with_what_had_been_taken(log: str, after: str, had: int | None) -> None:
    cause = diagnose(log, -9, by_kernel=True)
    assert cause.sentence == f"the kernel killed llama-server: its memory limit was reached{after}"
    assert (cause.kind, cause.had_bytes) == (CauseKind.OUT_OF_MEMORY, had)
