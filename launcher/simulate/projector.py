"""Simulate a multimodal projector (`--mmproj`) by llama.cpp's own account of it.

mtmd_get_memory_usage (tools/mtmd/mtmd.cpp at 0c1e570), which llama-server asks under `--fit on`, loads a
projector's header without data, allocates its weights and reserves the graph of one warm-up image: here on
virtual buffers.
"""

from __future__ import annotations

import os
import struct
from ctypes import CDLL, Structure, c_bool, c_char_p, c_int, c_void_p
from pathlib import Path

from launcher.plan.amounts import HOST
from launcher.plan.oracle import BufferRow, ProjectorAnswer, ProjectorQuestion, Refusal
from launcher.simulate.abi.binding import StdMap, walk_map
from launcher.simulate.abi.layout_check import Unavailable
from launcher.simulate.devices import VirtualDevices
from launcher.simulate.run import FLASH_ATTENTION

# a C++ function that returns a std::map, as llama_get_memory_breakdown does
_USAGE = "_Z21mtmd_get_memory_usagePKc19mtmd_context_params"
# colour, parent, left, right; then ggml_backend_dev_t and bytes (bits/stl_tree.h)
_NODE = struct.Struct("4Q2Q")


class _Parameters(Structure):
    """struct mtmd_context_params (tools/mtmd/mtmd.h)."""

    _fields_ = (
        ("use_gpu", c_bool),
        ("device", c_void_p),
        ("print_timings", c_bool),
        ("n_threads", c_int),
        ("image_marker", c_char_p),
        ("media_marker", c_char_p),
        ("flash_attn_type", c_int),
        ("warmup", c_bool),
        ("image_min_tokens", c_int),
        ("image_max_tokens", c_int),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("batch_max_tokens", c_int),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
    )


# what mtmd_context_params_default answers (tools/mtmd/mtmd.cpp); without a version, values tell the layout
_DEFAULTS = {
    "use_gpu": True,
    "device": None,
    "n_threads": 4,
    "image_marker": None,
    "media_marker": b"<__media__>",
    "flash_attn_type": -1,
    "warmup": True,
    "image_min_tokens": -1,
    "image_max_tokens": -1,
    "batch_max_tokens": 1024,
    "progress_callback": None,
    "progress_callback_user_data": None,
}


class ProjectorSimulator:
    """libmtmd beside the engine's libraries. Raises Unavailable if it is missing or has another layout."""

    def __init__(self, lib_dir: Path, virtual: VirtualDevices) -> None:
        try:
            library = CDLL(str(lib_dir / "libmtmd.so.0"))
            defaults, self._usage = library.mtmd_context_params_default, getattr(library, _USAGE)
        except (OSError, AttributeError) as error:
            raise Unavailable(f"the engine's libmtmd in {lib_dir} cannot be asked: {error}") from error
        defaults.restype, defaults.argtypes = _Parameters, ()
        self._usage.restype, self._usage.argtypes = StdMap, (c_char_p, _Parameters)
        self._defaults = defaults
        self._virtual = virtual
        self._check_layout()

    def simulate(self, question: ProjectorQuestion) -> ProjectorAnswer | Refusal:
        """Return weights and compute by place, or a Refusal for a file that llama.cpp does not load."""
        self._virtual.faults.clear()
        self._virtual.reserving = True
        try:
            weights = self._bytes(question, reserve=False)
            total = self._bytes(question, reserve=True)
        finally:
            self._virtual.reserving = False
            if self._virtual.faults:
                raise self._virtual.faults[0]
        engine = self._virtual.binding.engine
        if not weights:
            reason = f"{engine}: not a projector that this llama.cpp can load"
            return Refusal(reason=reason, model_refused=True)
        return ProjectorAnswer(
            rows=tuple(
                BufferRow(
                    where=where,
                    buffer_type="CPU" if where == HOST else where,
                    weights_bytes=weights.get(where, 0),
                    kv_bytes=0,
                    recurrent_bytes=0,
                    compute_bytes=n_bytes - weights.get(where, 0),
                    output_bytes=0,
                )
                for where, n_bytes in total.items()
            ),
            engine=engine,
        )

    def _bytes(self, question: ProjectorQuestion, *, reserve: bool) -> dict[str, int]:
        """Return bytes by place: of the weights alone, or (`reserve`) with the graph of a warm-up."""
        # as llama-server sets them (server_context::load_model), but for what depends on the text model
        parameters = self._defaults()
        parameters.use_gpu = question.where != HOST
        parameters.device = self._virtual.addresses.get(question.where)
        parameters.print_timings = False
        parameters.flash_attn_type = FLASH_ATTENTION[question.flash_attn]
        parameters.image_min_tokens = question.image_min_tokens
        parameters.image_max_tokens = question.image_max_tokens
        parameters.warmup = reserve
        tree = self._usage(os.fsencode(question.model), parameters)
        entries = tuple(walk_map(tree.root, _NODE))
        if len(entries) != tree.count:
            raise Unavailable("mtmd_get_memory_usage answers in a form this simulator does not know")
        names = {address: name for name, address in self._virtual.addresses.items()}
        by_place: dict[str, int] = {}
        for address, n_bytes in entries:
            where = names.get(address, HOST)
            by_place[where] = by_place.get(where, 0) + n_bytes
        return by_place

    def _check_layout(self) -> None:
        """Raise Unavailable if the library's parameters are not laid out as `_Parameters`."""
        parameters = self._defaults()
        wrong = [name for name, value in _DEFAULTS.items() if getattr(parameters, name) != value]
        if wrong:
            raise Unavailable(f"this libmtmd has other parameters than the simulator knows ({wrong[0]})")
