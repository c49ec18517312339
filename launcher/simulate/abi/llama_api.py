"""Declare what a simulation calls of llama.h: parameters as ctypes, by layout, and functions.

llama.h carries no version. The layout of a library is told by its default parameters: they must have exactly
the known values, and end where the library stopped writing. Known are include/llama.h of llama.cpp 0c1e570,
without `lazy_mode` of 7e4c0a9 (b10434), and with `moe_cache_size` of 0ce8cd1 (b11739).
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping
from ctypes import (
    CDLL,
    CFUNCTYPE,
    Structure,
    c_bool,
    c_char_p,
    c_float,
    c_int,
    c_int32,
    c_size_t,
    c_uint32,
    c_void_p,
)
from typing import Any

from launcher.simulate.abi.layout_check import Unavailable

# ggml_log_callback: level, text, user data
LOG_CALLBACK = CFUNCTYPE(None, c_int, c_char_p, c_void_p)


class LlamaModelParameters(Structure):
    """struct llama_model_params."""

    _fields_ = (
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int),
        ("load_mode", c_int),
        ("lazy_mode", c_int),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    )


class ModelParametersBeforeLazy(Structure):
    """struct llama_model_params before `lazy_mode`."""

    _fields_ = tuple(field for field in LlamaModelParameters._fields_ if field[0] != "lazy_mode")


class LlamaContextParameters(Structure):
    """struct llama_context_params; `plan.parameters.ContextParameters` has what a plan sets of it."""

    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int),
        ("rope_scaling_type", c_int),
        ("pooling_type", c_int),
        ("attention_type", c_int),
        ("flash_attn_type", c_int),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int),
        ("type_v", c_int),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    )


class ContextParametersWithMoeCache(Structure):
    """struct llama_context_params since `moe_cache_size`."""

    _fields_ = tuple(
        field
        for name, *kind in LlamaContextParameters._fields_
        for field in (
            (("moe_cache_size", c_size_t), (name, *kind)) if name == "abort_callback" else ((name, *kind),)
        )
    )


# what llama_model_default_params (src/llama-model.cpp) and llama_context_default_params
# (src/llama-context.cpp) answer; every other field is zero
_MODEL_DEFAULTS = {"n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "use_extra_bufts": True}
_CONTEXT_DEFAULTS = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    **dict.fromkeys(("n_threads", "n_threads_batch"), 4),
    **dict.fromkeys(("n_seq_max", "n_outputs_max_per_seq", "type_k", "type_v"), 1),
    **dict.fromkeys(("rope_scaling_type", "pooling_type", "attention_type", "flash_attn_type"), -1),
    **dict.fromkeys(("yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"), -1.0),
    "defrag_thold": -1.0,
    **dict.fromkeys(("offload_kqv", "no_perf", "op_offload", "swa_full"), True),
}

Layouts = tuple[tuple[type[Structure], Mapping[str, object]], ...]
MODEL_LAYOUTS: Layouts = (
    (LlamaModelParameters, {**_MODEL_DEFAULTS, "lazy_mode": 1}),
    (ModelParametersBeforeLazy, _MODEL_DEFAULTS),
)
CONTEXT_LAYOUTS: Layouts = (
    (LlamaContextParameters, _CONTEXT_DEFAULTS),
    (ContextParametersWithMoeCache, _CONTEXT_DEFAULTS),
)
_BUFFER_BYTES = 1024  # with space for a llama.cpp that has more parameters


class _RawParameters(Structure):
    _fields_ = (("bytes", ctypes.c_uint8 * _BUFFER_BYTES),)


def declare(library: CDLL) -> None:
    """Give libllama's functions their signatures.

    Raises Unavailable if the layout of its parameters is not known, AttributeError if a function is missing.
    """
    model = known_layout(library.llama_model_default_params, MODEL_LAYOUTS)
    context = known_layout(library.llama_context_default_params, CONTEXT_LAYOUTS)
    signatures: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
        ("llama_model_default_params", model, ()),
        ("llama_context_default_params", context, ()),
        ("llama_log_set", None, (LOG_CALLBACK, c_void_p)),
        ("llama_backend_init", None, ()),
        ("llama_model_load_from_file", c_void_p, (c_char_p, model)),
        ("llama_init_from_model", c_void_p, (c_void_p, context)),
        ("llama_free", None, (c_void_p,)),
        ("llama_model_free", None, (c_void_p,)),
        ("llama_model_n_ctx_train", c_int32, (c_void_p,)),
        ("llama_n_ctx", c_uint32, (c_void_p,)),
        ("llama_n_ctx_seq", c_uint32, (c_void_p,)),
        ("llama_n_ubatch", c_uint32, (c_void_p,)),
        ("llama_model_meta_val_str", c_int32, (c_void_p, c_char_p, c_char_p, c_size_t)),
    )
    for name, result, arguments in signatures:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def known_layout(defaults: Any, layouts: Layouts) -> type[Structure]:
    """Return the layout of the structure that the function `defaults` returns by value."""
    raw, end = _call(defaults)
    for layout, values in layouts:
        answered = layout.from_buffer_copy(raw)
        last = getattr(layout, layout._fields_[-1][0])
        if end in {None, last.offset + last.size} and _has_values(answered, values):
            return layout
    raise Unavailable("the engine's llama.h lays out its parameters in a way this simulator does not know")


def _call(defaults: Any) -> tuple[bytes, int | None]:
    """Return the bytes that `defaults` answers, and how many of them it has written (None if unknown)."""
    if platform.machine() != "x86_64":
        defaults.restype, defaults.argtypes = _RawParameters, ()
        return bytes(defaults()), None
    # The System V ABI of x86-64 passes the structure's address as a hidden first argument. A byte that is the
    # same after two calls on different fillers has been written.
    defaults.restype, defaults.argtypes = None, (c_void_p,)
    answers = []
    for filler in (b"\xaa", b"\x55"):
        buffer = ctypes.create_string_buffer(filler * _BUFFER_BYTES, _BUFFER_BYTES)
        defaults(buffer)
        answers.append(buffer.raw)
    written = [index for index, (a, b) in enumerate(zip(*answers, strict=True)) if a == b]
    return answers[0], written[-1] + 1 if written else 0


def _has_values(answered: Structure, values: Mapping[str, object]) -> bool:
    names = (field[0] for field in answered._fields_)
    return all((getattr(answered, name) or 0) == values.get(name, 0) for name in names)
