"""The last messages of llama-server, the loader and drivers, and what they mean. Pure.

llama.cpp's own messages at commit 0c1e570 (file and function beside each), those of older versions and of the
systems below it. Every pattern is tested with captured logs (tests/captures/logs), and takes time in
proportion to the log: it begins with words or where a word begins, and its parts are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from launcher.engine.log.cause import Cause, CauseKind
from launcher.engine.log.explain_match import (
    BUILD,
    ENGINE_INFO,
    FETCH_AGAIN,
    REPORT,
    bad_flag_value,
    cause_of,
    out_of_memory,
    pinned_memory_refused,
)

_MIB = r"(?P<mib>\d{1,12}(?:\.\d{1,6})?)"
_BYTES = r"(?P<bytes>\d{1,20})"

Explain = Callable[[re.Match[str]], Cause]

# The first that matches wins, so causes stand before their consequences.
COMPLAINTS: tuple[tuple[re.Pattern[str], Explain], ...] = (
    (  # deployment/cluster/run_gang.py
        re.compile(r"(?m)^launcher: gang: (?P<why>.{1,400})"),
        cause_of(CauseKind.RPC_LOST, "{why}", "launcher cluster ls"),
    ),
    (  # ld.so(8)
        re.compile(r"error while loading shared libraries: (?P<library>[^:\s]{1,300}):"),
        cause_of(
            CauseKind.MISSING_LIBRARY,
            "llama-server needs the shared library {library}, which is not there",
            "launcher engine build",
        ),
    ),
    (  # dyld(1)
        re.compile(r"Library not loaded: (?P<library>\S+)"),
        cause_of(
            CauseKind.MISSING_LIBRARY,
            "llama-server needs the shared library {library}, which is not there",
            "launcher engine build",
        ),
    ),
    (  # ld.so(8), a binary from a newer system
        re.compile(r"version `(?P<version>[^'\n]{1,100})' not found"),
        cause_of(
            CauseKind.MISSING_LIBRARY,
            "llama-server was built for a newer system: it needs {version}",
            "launcher engine build",
        ),
    ),
    (  # common/arg.cpp, common_params_parse_ex
        re.compile(r"error: invalid argument: (?P<flag>.+)"),
        cause_of(CauseKind.UNKNOWN_FLAG, "this llama-server does not know {flag}", ENGINE_INFO),
    ),
    (  # the same
        re.compile(r'error while handling argument "(?P<flag>[^"\n]{1,100})": (?P<why>.+)'),
        bad_flag_value,
    ),
    (  # tools/server/server-http.cpp, server_http_context::start
        re.compile(
            r"couldn't bind HTTP server socket, hostname: (?P<host>\S{1,300}), port: (?P<port>\d{1,5})"
        ),
        cause_of(
            CauseKind.PORT_IN_USE,
            "port {port} on {host} was taken by another process",
            "choose another --port",
        ),
    ),
    (  # src/llama-model.cpp, llama_model_base
        re.compile(r"unknown model architecture: '(?P<architecture>[^'\n]{0,100})'"),
        cause_of(
            CauseKind.UNKNOWN_ARCHITECTURE,
            "this llama-server does not know the model architecture {architecture}",
            "launcher engine update takes a newer one (or name one: --engine)",
        ),
    ),
    (  # ggml-cuda.cu, ggml_cuda_init and cudaGetErrorString: what the driver cannot do
        re.compile(
            r"(?P<why>CUDA driver version is insufficient for CUDA runtime version"
            r"|system has unsupported display driver / cuda driver combination"
            r"|no (?:CUDA|ROCm)-capable device is detected)"
        ),
        cause_of(
            CauseKind.DRIVER,
            "the GPU's driver does not suit this llama-server: {why}",
            "update the driver, or launcher engine build for the one there is",
        ),
    ),
    (  # the same, older: `CUDA error 209 at …`
        re.compile(r"no kernel image is available for execution on the device"),
        cause_of(
            CauseKind.DRIVER,
            "this llama-server was not built for the compute capability of the GPU",
            BUILD,
        ),
    ),
    (  # ggml-cuda.cu, ggml_cuda_init
        re.compile(r"failed to initialize (?:CUDA|ROCm): (?P<why>.+)"),
        cause_of(CauseKind.DRIVER, "the GPU's driver could not be initialised: {why}", "look at nvidia-smi"),
    ),
    (  # ggml-rpc.cpp, get_dispatcher
        re.compile(r"Failed to connect to (?P<peer>\S{1,300}:\d{1,5})"),
        cause_of(
            CauseKind.RPC_LOST,
            "the RPC peer {peer} does not answer",
            "start ggml-rpc-server there, or leave it out",
        ),
    ),
    (  # ggml-rpc.cpp, RPC_STATUS_ASSERT and what it was before
        re.compile(
            r"Remote RPC server crashed or returned malformed response"
            r"|ggml-rpc\.cpp:\d{1,6}: GGML_ASSERT\(status\)"
        ),
        cause_of(
            CauseKind.RPC_LOST,
            "an RPC peer was lost: it crashed, or its network failed",
            "look at the peer's own log; both sides must be the same llama.cpp",
        ),
    ),
    (  # ggml-cuda.cu, ggml_backend_cuda_buffer_type_alloc_buffer
        re.compile(rf"allocating {_MIB} MiB on device (?P<device>\d{{1,3}}): cudaMalloc failed"),
        out_of_memory,
    ),
    (  # ggml-alloc.c, alloc_tensor_range
        re.compile(rf"failed to allocate (?P<device>\S{{1,100}}) buffer of size {_BYTES}"),
        out_of_memory,
    ),
    (  # ggml-vulkan-buffers.cpp, ggml_vk_create_buffer_device and its callers
        re.compile(rf"(?:Device m|M)emory allocation of size {_BYTES} failed"),
        out_of_memory,
    ),
    (  # ggml-backend.cpp, ggml_backend_cpu_buffer_type_alloc_buffer
        re.compile(rf"ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size {_BYTES}"),
        out_of_memory,
    ),
    (  # ggml.c, ggml_aligned_malloc
        re.compile(rf"insufficient memory \(attempted to allocate {{1,16}}{_MIB} MB\)"),
        out_of_memory,
    ),
    (  # Vulkan, CUDA, libstdc++, llama-context.cpp, ggml-alloc.c, llama-model.cpp, llama-mmap.cpp
        re.compile(
            r"ErrorOutOfDeviceMemory|ErrorOutOfHostMemory|(?:CUDA|ROCm) error: out of memory|std::bad_alloc"
            r"|kIOGPUCommandBufferCallbackErrorOutOfMemory"
            r"|failed to allocate compute (?:pp |tg )?buffers|graph allocation: failed to reserve memory"
            r"|unable to allocate (?P<device>\S{1,100}) buffer|mmap failed: Cannot allocate memory"
        ),
        out_of_memory,
    ),
    (  # src/llama-model-loader.h, llama_tensor_weight
        re.compile(r"tensor '(?P<tensor>[^'\n]{0,100})' data is not within the file bounds"),
        cause_of(
            CauseKind.BAD_FILE,
            "the model file is incomplete: tensor {tensor} lies beyond its end",
            FETCH_AGAIN,
        ),
    ),
    (  # ggml/src/gguf.cpp, gguf_init_from_reader
        re.compile(r"invalid magic characters: '.{0,100}', expected 'GGUF'"),
        cause_of(
            CauseKind.BAD_FILE,
            "the model file is not a GGUF file: it does not begin with GGUF",
            FETCH_AGAIN,
        ),
    ),
    (  # ggml/src/gguf.cpp, gguf_init_from_file
        re.compile(r"failed to open GGUF file '(?P<path>[^'\n]{0,4096})' \((?P<why>[^)\n]{0,300})\)"),
        cause_of(
            CauseKind.BAD_FILE,
            "the model file {path} cannot be opened: {why}",
            "launcher pull fetches it again",
        ),
    ),
    (  # ggml/src/gguf.cpp, gguf_init_from_reader: every other way a header can be wrong
        re.compile(r"gguf_init_from_\w{1,40}: (?P<why>failed to read .+)"),
        cause_of(CauseKind.BAD_FILE, "the model file's header is damaged: {why}", FETCH_AGAIN),
    ),
    (  # src/llama-context.cpp, llama_init_from_model: parameters that do not go together
        re.compile(
            r"llama_init_from_model: (?P<why>.{0,300}(?:requires flash_attn|does not support different K).*)"
        ),
        cause_of(
            CauseKind.UNSUPPORTED,
            "llama-server refuses these settings: {why}",
            "launcher plan chooses ones that work",
        ),
    ),
    (  # common/chat.cpp, common_chat_templates_init; minja and its successors
        re.compile(
            r"(?:the supplied chat template is not supported: |Parser Error: |what\(\): {1,16}(?=Expected ))"
            r"(?P<why>[^\n]*)"
        ),
        cause_of(
            CauseKind.TEMPLATE,
            "llama-server cannot read the model's chat template: {why}",
            "give another with -- --chat-template NAME",
        ),
    ),
    (  # common/common.cpp, common_init_
        re.compile(r"failed to load lora adapter '(?P<path>[^'\n]{1,4096})'"),
        cause_of(CauseKind.BAD_FILE, "the adapter {path} cannot be loaded", "leave it out, or name another"),
    ),
    (  # src/llama-model-loader.cpp, llama_model_loader
        re.compile(r"illegal split file idx: \d{1,10} \(file: (?P<path>[^)\n]{1,4096})\)"),
        cause_of(
            CauseKind.BAD_FILE,
            "{path} is not the first part of the model",
            "name the file that ends in -00001-of-…",
        ),
    ),
    (  # src/llama-model-loader.cpp, check_tensor_dims and done_getting_tensors
        re.compile(
            r"error loading model: (?P<why>(?:\w{1,100}: )?"
            r"(?:missing tensor|wrong number of tensors|tensor '[^'\n]{1,100}' not found)[^\n]*)"
        ),
        cause_of(
            CauseKind.BAD_FILE,
            "the model file does not have the tensors this llama-server expects: {why}",
            "launcher engine update takes a newer engine; or take another conversion of the model",
        ),
    ),
    (  # vulkan.hpp, thrown through llama_model_load
        re.compile(r"error loading model: (?P<why>vk::\S{1,100}: Error\w+)"),
        cause_of(
            CauseKind.DRIVER,
            "the GPU could not be used: {why}",
            "look at vulkaninfo, or update the GPU's driver",
        ),
    ),
    (  # src/llama-model-loader.cpp and llama-model.cpp, whatever else they throw
        re.compile(r"llama_model_load: error loading model: (?P<why>.+)"),
        cause_of(
            CauseKind.BAD_FILE,
            "llama-server cannot load the model: {why}",
            "launcher engine update takes a newer engine; or take another conversion of the model",
        ),
    ),
    (  # cudaGetErrorString, vk::Result: the device is not usable any more
        re.compile(
            r"(?P<why>CUDA error: an illegal memory access was encountered|DeviceLostError|ErrorDeviceLost)"
        ),
        cause_of(CauseKind.DEVICE_LOST, "the GPU stopped working for llama-server ({why})", REPORT),
    ),
    (  # ggml/src/ggml.c, ggml_abort
        re.compile(
            r"(?<![^\s:])(?P<place>[^\s:]{1,300}\.(?:cpp|cuh|cu|c|hpp|h|m|mm):\d{1,7}): "
            r"(?P<what>GGML_ASSERT\(.{0,300}\) failed|fatal error|(?!.{0,300}warning).+)"
        ),
        cause_of(CauseKind.ASSERTION, "llama-server stopped at {place}: {what}", REPORT),
    ),
    # Fatal only with what follows it:
    (  # ggml-cuda.cu, ggml_cuda_host_malloc; ggml-vulkan, ggml_vk_host_malloc
        re.compile(
            r"failed to allocate (?P<mib>\d{1,12}(?:[.,]\d{1,6})?) MiB of pinned memory"
            r"|Failed to allocate pinned memory"
        ),
        pinned_memory_refused,
    ),
)
