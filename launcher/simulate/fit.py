"""Run llama-server's `--fit` on virtual devices: common_fit_params of the engine's own libllama-common.

It loads the model once for each placement that it tries (common/fit.cpp at 0c1e570), as llama-server does
before it loads the line for good. Here every load is virtual.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import (
    CDLL,
    Structure,
    c_bool,
    c_char_p,
    c_float,
    c_int,
    c_size_t,
    c_uint32,
    c_void_p,
)
from pathlib import Path
from typing import Any

from launcher.machine.machine import MAX_DEVICES
from launcher.plan.amounts import HOST
from launcher.plan.modes import TensorOverride
from launcher.plan.oracle import FitQuestion, Fitted, Question, Refusal
from launcher.simulate.abi import layout
from launcher.simulate.abi.layout import BufferTypeOverride
from launcher.simulate.abi.layout_check import Unavailable
from launcher.simulate.run import MTP_CONTEXT, ModelParameters, Simulator, context_parameters

# its name states the types of its parameters: another signature is another symbol
_FIT = (
    "_Z17common_fit_paramsPKcP18llama_model_paramsP20llama_context_paramsPfP32llama_model_tensor_buft_override"
    "PmjPK22common_fit_extra_model14ggml_log_level"
)
_MAIN_LOG, _PAUSE_LOG = "_Z15common_log_mainv", "_Z16common_log_pauseP10common_log"
_MAX_OVERRIDES = 4096  # llama_max_tensor_buft_overrides (src/llama.cpp)
_AUTO_LAYERS = -1  # `-ngl auto`, the only value that fit changes
# enum common_params_fit_status (common/fit.h): SUCCESS 0, FAILURE 1, ERROR 2
_ERROR = 2
_LOG_ERRORS = 4  # GGML_LOG_LEVEL_ERROR, as llama-server passes it
_CPU_DEVICE = 0  # GGML_BACKEND_DEVICE_TYPE_CPU


class _ExtraModel(Structure):
    """struct common_fit_extra_model (common/fit.h)."""

    _fields_ = (
        ("path_model", c_char_p),
        ("mparams", c_void_p),
        ("cparams", c_void_p),
        ("shares_model", c_bool),
    )


class FitSimulator:
    """libllama-common beside the engine's libraries. Raises Unavailable if it cannot be asked."""

    def __init__(self, lib_dir: Path, simulator: Simulator) -> None:
        self._simulator = simulator
        try:
            common = CDLL(str(lib_dir / "libllama-common.so.0"))
            self._fit = getattr(common, _FIT)
            main_log, pause_log = getattr(common, _MAIN_LOG), getattr(common, _PAUSE_LOG)
        except (OSError, AttributeError) as error:
            raise Unavailable(f"the engine in {lib_dir} has no --fit that can be asked: {error}") from error
        self._fit.restype = c_int
        self._fit.argtypes = (
            c_char_p,
            *(c_void_p,) * 5,
            c_uint32,
            c_void_p,
            c_int,
        )
        main_log.restype, main_log.argtypes = c_void_p, ()
        pause_log.restype, pause_log.argtypes = None, (c_void_p,)
        pause_log(main_log())  # its thread would write to stderr, where a reason of the worker's end is read

    def fit(self, asked: FitQuestion) -> Fitted | Refusal:
        """Return the line as fit leaves it, or a Refusal if llama.cpp does not load it."""
        self._set_host_memory(asked.host_bytes)
        return self._simulator.guarded(lambda: self._run(asked), reserving=True)

    def _run(self, asked: FitQuestion) -> Fitted | Refusal:
        simulator = self._simulator
        binding, question = simulator.binding, asked.question
        line = _Line(simulator, asked)
        targets = (c_size_t * MAX_DEVICES)(*asked.targets)
        extra = None if asked.companion is None else _Extra(simulator, asked.companion, question.model)
        status = self._fit(
            os.fsencode(question.model),
            ctypes.addressof(line.model),
            ctypes.addressof(line.context),
            ctypes.addressof(line.split),
            ctypes.addressof(line.overrides),
            ctypes.addressof(targets),
            asked.least_ctx_size,
            None if extra is None else ctypes.addressof(extra.struct),
            _LOG_ERRORS,
        )
        if status == _ERROR:
            return Refusal(reason=f"{binding.engine}: {simulator.log.error}", model_refused=True)
        layers = line.model.n_gpu_layers
        return Fitted(
            gave_up=status != 0,
            ctx_size=line.context.n_ctx,
            n_gpu_layers=None if layers < 0 else layers,
            tensor_split=tuple(line.split[: len(question.devices)]) if any(line.split) else (),
            overrides=line.read_overrides(),
            engine=binding.engine,
        )

    def _set_host_memory(self, n_bytes: int) -> None:
        """Give ggml's CPU device so much memory, total and free, as ggml-cpu.cpp answers."""
        virtual = self._simulator.virtual
        by_type = self._simulator.binding.ggml.ggml_backend_dev_by_type
        by_type.restype, by_type.argtypes = c_void_p, (c_int,)

        def memory(_device: int, free_at: Any, total_at: Any) -> None:
            free_at[0] = total_at[0] = n_bytes

        device = layout.VirtualDevice.from_address(by_type(_CPU_DEVICE))
        device.iface.get_memory = virtual.callback(layout.GET_MEMORY, memory)


class _Line:
    """The parameters that fit may change, and their arrays."""

    def __init__(self, simulator: Simulator, asked: FitQuestion) -> None:
        question = asked.question
        self._places = {address: name for name, address in simulator.virtual.buffer_types.items()}
        self._given = ModelParameters(simulator.binding, simulator.virtual, question)
        self.model = self._given.struct
        self.context = context_parameters(simulator.binding.llama, question)
        self.split = (c_float * MAX_DEVICES)(*question.tensor_split)
        self.overrides = (BufferTypeOverride * _MAX_OVERRIDES)(*self._given.overrides)
        # llama-server passes the arrays that fit writes to as the model's own
        self.model.tensor_split = ctypes.addressof(self.split)
        self.model.tensor_buft_overrides = ctypes.addressof(self.overrides)
        if question.n_gpu_layers is None and not asked.layers_given:
            self.model.n_gpu_layers = _AUTO_LAYERS

    def read_overrides(self) -> tuple[TensorOverride, ...]:
        found = []
        for override in self.overrides:
            if override.pattern is None:
                break
            where = self._places.get(override.buft, HOST)
            found.append(TensorOverride(pattern=override.pattern.decode(), where=where))
        return tuple(found)


class _Extra:
    """A draft model, or MTP blocks of `main`, as llama-server hands them to fit.

    common_init_result (common/common.cpp).
    """

    def __init__(self, simulator: Simulator, question: Question, main: str) -> None:
        self._model = ModelParameters(simulator.binding, simulator.virtual, question)
        self._context = context_parameters(simulator.binding.llama, question)
        if question.load_mtp:
            self._context.ctx_type = MTP_CONTEXT
        self.struct = _ExtraModel(
            path_model=os.fsencode(question.model),
            mparams=ctypes.addressof(self._model.struct),
            cparams=ctypes.addressof(self._context),
            shares_model=question.model == main,
        )
