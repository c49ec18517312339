"""llama-cpp-python on an engine's own libraries, and a Llama with exactly a plan's parameters.

Its constructor has no word for devices, overrides, flash attention `auto` and the rows of logits. So the two
structures that it hands to llama.cpp are completed on their way, by the names of llama.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.engine.find import Engine
from launcher.errors import EngineFailed, UsageError
from launcher.gguf.ggml import GgmlType
from launcher.plan.amounts import HOST
from launcher.plan.expert_pattern import placement_overrides
from launcher.plan.modes import LoadMode, NumaMode
from launcher.plan.plan import Plan
from launcher.simulate.abi.layout import BufferTypeOverride
from launcher.simulate.abi.layout_check import Unavailable
from launcher.simulate.abi.llama_api import CONTEXT_LAYOUTS, MODEL_LAYOUTS, known_layout
from launcher.simulate.run import FLASH_ATTENTION, LAZY_MODES

if TYPE_CHECKING:
    from llama_cpp import Llama

# Builds the bindings alone: the libraries are the engine's.
INSTALL = f"CMAKE_ARGS=-DLLAMA_BUILD=OFF {sys.executable} -m pip install 'gguf-launcher[python]'"

# Arguments of llama_cpp.Llama that move no memory and decide nothing that a plan decides.
FREE_ARGUMENTS = frozenset(
    {
        "chat_format",
        "chat_handler",
        "last_n_tokens_size",
        "no_perf",
        "seed",
        "spm_infill",
        "tokenizer",
        "verbose",
    }
)

_LIBRARIES = "LLAMA_CPP_LIB_PATH"
# enum ggml_numa_strategy (ggml/include/ggml-cpu.h)
_NUMA = {NumaMode.DISTRIBUTE: 1, NumaMode.ISOLATE: 2, NumaMode.NUMACTL: 3, NumaMode.OFF: 0}

_one_at_a_time = threading.RLock()


@dataclass(frozen=True, slots=True)
class Bindings:
    """llama-cpp-python, imported on the libraries of an engine."""

    package: Any
    engine: Engine
    ggml: ctypes.CDLL


def import_bindings(engine: Engine) -> Bindings:
    """Import llama-cpp-python on this engine's libraries.

    Raises UsageError if it is not installed, is of another llama.cpp, or is on other libraries already.
    """
    library = engine.folder / "libllama.so"
    if not library.exists():
        raise UsageError(
            f"{engine.path} has no {library.name} beside it, and a Llama needs the engine's libraries",
            hint="launcher engine build",
        )
    with _one_at_a_time:
        package = _import_on(engine.folder)
    _check_loaded(package, engine.folder)
    _check_layouts(package, library, engine)
    ggml = ctypes.CDLL(str(engine.folder / "libggml.so"))
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    if not ggml.ggml_backend_dev_count():  # built with plugins (GGML_BACKEND_DL), which the program loads
        ggml.ggml_backend_load_all_from_path(os.fsencode(engine.folder))
    return Bindings(package, engine, ggml)


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise UsageError for an argument of Llama that a plan decides, or that takes memory beside it."""
    for name in arguments:
        if name not in FREE_ARGUMENTS:
            raise UsageError(
                f"llama={{{name!r}: …}} is the plan's to decide, or takes memory that no plan counts",
                hint=f"these are free: {', '.join(sorted(FREE_ARGUMENTS))}",
            )


def make_llama(bindings: Bindings, plan: Plan, model: Path, arguments: Mapping[str, Any]) -> Llama:
    """Load the model as planned. Raises EngineFailed where llama.cpp does not."""
    parameters = _PlannedParameters(bindings, plan)
    with _one_at_a_time, _completed(bindings.package.llama_cpp, parameters):
        try:
            llama: Llama = bindings.package.Llama(
                str(model),
                n_gpu_layers=plan.placement.n_gpu_layers,
                use_mmap=plan.load_mode is LoadMode.MMAP,
                use_mlock=plan.load_mode is LoadMode.MLOCK,
                n_ctx=plan.ctx_size,
                n_batch=plan.batch_size,
                n_ubatch=plan.ubatch_size,
                n_threads=plan.threads,
                n_threads_batch=plan.threads,
                numa=_NUMA[plan.numa or NumaMode.OFF],
                **{"verbose": False, **arguments},
            )
        except ValueError as error:  # it has one for everything that llama.cpp refuses
            raise EngineFailed(
                f"llama.cpp did not load {model.name} as it was planned: {error}",
                hint="llama={'verbose': True} prints its log",
            ) from error
    llama.planned_parameters = parameters  # type: ignore[attr-defined]  # its arrays are llama.cpp's to read
    return llama


class _PlannedParameters:
    """A plan's values for llama.h's structures, as llama-server sets them, and the arrays they point to."""

    def __init__(self, bindings: Bindings, plan: Plan) -> None:
        self._plan = plan
        ggml = bindings.ggml
        devices = [_device(bindings, name) for name in plan.placement.devices]
        self._devices = (ctypes.c_void_p * (len(devices) + 1))(*devices)
        overrides = placement_overrides(plan.placement)
        self._overrides = (BufferTypeOverride * (len(overrides) + 1))()
        ggml.ggml_backend_dev_buffer_type.restype = ctypes.c_void_p
        ggml.ggml_backend_dev_buffer_type.argtypes = [ctypes.c_void_p]
        for record, override in zip(self._overrides, overrides, strict=False):
            where = "CPU" if override.where == HOST else override.where
            record.pattern = override.pattern.encode()
            record.buft = ggml.ggml_backend_dev_buffer_type(_device(bindings, where))
        split = plan.placement.tensor_split if len(plan.placement.devices) > 1 else ()
        self._split = (ctypes.c_float * bindings.package.llama_cpp.LLAMA_MAX_DEVICES)(*split)
        self._has_overrides = bool(overrides)

    def complete_model(self, struct: Any) -> None:
        # common_model_params_to_llama (common/common.cpp); an empty list of devices is none at all
        struct.devices = ctypes.addressof(self._devices)
        struct.tensor_buft_overrides = ctypes.addressof(self._overrides) if self._has_overrides else None
        struct.tensor_split = ctypes.cast(self._split, ctypes.POINTER(ctypes.c_float))
        struct.split_mode = 1  # LLAMA_SPLIT_MODE_LAYER
        struct.main_gpu = 0
        struct.lazy_mode = LAZY_MODES[self._plan.lazy_mode]

    def complete_context(self, struct: Any) -> None:
        # common_context_params_to_llama (common/common.cpp), for one sequence
        struct.n_seq_max = 1
        struct.n_outputs_max = struct.n_outputs_max_per_seq = 1
        struct.flash_attn_type = FLASH_ATTENTION[self._plan.flash_attn]
        struct.type_k = GgmlType[self._plan.cache_type_k.upper()]
        struct.type_v = GgmlType[self._plan.cache_type_v.upper()]
        struct.offload_kqv = struct.kv_unified = True
        struct.op_offload = self._plan.op_offload
        struct.swa_full = False


@contextlib.contextmanager
def _completed(api: Any, parameters: _PlannedParameters) -> Iterator[None]:
    """Have the structures completed that Llama's constructor hands to llama.cpp."""
    load, init = api.llama_model_load_from_file, api.llama_init_from_model

    def wrapped(function: Callable[..., Any], complete: Callable[[Any], None]) -> Callable[..., Any]:
        def call(subject: Any, struct: Any) -> Any:
            complete(struct)
            return function(subject, struct)

        return call

    api.llama_model_load_from_file = wrapped(load, parameters.complete_model)
    api.llama_init_from_model = wrapped(init, parameters.complete_context)
    try:
        yield
    finally:
        api.llama_model_load_from_file, api.llama_init_from_model = load, init


def _device(bindings: Bindings, name: str) -> int:
    by_name = bindings.ggml.ggml_backend_dev_by_name
    by_name.restype, by_name.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    address: int | None = by_name(name.encode())
    if address is None:
        raise EngineFailed(
            f"the plan uses {name}, and this process does not see it ({bindings.engine.folder})",
            hint="set what hides or orders GPUs (CUDA_VISIBLE_DEVICES) before the first load",
        )
    return address


def _import_on(folder: Path) -> Any:
    named = os.environ.get(_LIBRARIES)
    if named is not None and Path(named).resolve() != folder.resolve():
        raise UsageError(
            f"{_LIBRARIES} names {named}, and the engine that plans is in {folder}",
            hint=f"unset {_LIBRARIES}, or give engine={str(Path(named) / 'llama-server')!r}",
        )
    os.environ[_LIBRARIES] = str(folder)
    try:
        return importlib.import_module("llama_cpp")
    except ModuleNotFoundError as error:
        raise UsageError(f"llama-cpp-python is not installed: {error}", hint=INSTALL) from error
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        raise UsageError(
            f"llama-cpp-python does not go with the llama.cpp in {folder}: {error}",
            hint="launcher engine build makes the one that it goes with",
        ) from error
    finally:
        if named is None:
            del os.environ[_LIBRARIES]


def _check_loaded(package: Any, folder: Path) -> None:
    loaded = Path(package.llama_cpp._lib._name)  # noqa: SLF001  nothing public says which library it opened
    if loaded.parent.resolve() != folder.resolve():
        raise UsageError(
            f"this process has llama_cpp on {loaded} already, and the engine that plans is in {folder}",
            hint="call launcher.load before anything imports llama_cpp, or in a process of its own",
        )


def _check_layouts(package: Any, library: Path, engine: Engine) -> None:
    """Raise UsageError unless bindings and library lay llama.h's parameters out alike."""
    own = ctypes.CDLL(str(library))  # its functions are declared anew: not those of the bindings
    api = package.llama_cpp
    try:
        alike = all(
            _offsets(known_layout(defaults, layouts)) == _offsets(theirs)
            for defaults, layouts, theirs in (
                (own.llama_model_default_params, MODEL_LAYOUTS, api.llama_model_params),
                (own.llama_context_default_params, CONTEXT_LAYOUTS, api.llama_context_params),
            )
        )
    except (Unavailable, AttributeError):
        alike = False
    if not alike:
        raise UsageError(
            f"llama-cpp-python {package.__version__} is of another llama.cpp than {engine.path}: "
            "their parameters lie otherwise in memory",
            hint="launcher engine build",
        )


def _offsets(layout: Any) -> list[tuple[str, int]]:
    return [(name, getattr(layout, name).offset) for name, *_ in layout._fields_]
