"""Read from llama.cpp's log what the simulation needs and no function tells.

The lines are those of llama.cpp 0c1e570: src/llama-model.cpp (load_tensors), src/llama-context.cpp,
src/llama-memory-recurrent.cpp, src/llama-model-loader.cpp.
"""

from __future__ import annotations

import re

from launcher.gguf.tensor_names import block_of
from launcher.units import MIB

_LAYER = re.compile(r"layer\s+(\d+) assigned to device (\S+), is_swa")
_OVERRIDDEN = re.compile(r"^tensor (\S+) \(.*buffer type overridden to (\S+)")
_RECURRENT = re.compile(r"(\S+) RS buffer size =\s*([\d.]+) MiB")
_OUTPUT = re.compile(r"(\S+)\s+output buffer size =\s*([\d.]+) MiB")
_N_OUTPUTS = re.compile(r"n_outputs_max\s+= (\d+)")
_INPUT_TENSORS = ("token_embd", "per_layer_token_embd", "position_embd", "token_types")
_FUNCTION_NAMES = re.compile(r"^(?:[a-z_0-9]+: )?(?:error loading model: )?(?:check_tensor_dims: )?")
# enum ggml_log_level (ggml/include/ggml.h): NONE 0, DEBUG 1, INFO 2, WARN 3, ERROR 4, CONT 5
_ERROR_LEVEL = 4
_CONTINUED = 5
# functions that log thousands of lines without anything that is noted here
_CHATTER = (b"llama_graph_n_input_tensors", b"create_tensor", b"llama_model_loader", b"load: ", b"print_info")


class LoadLog:
    """What one simulation has logged."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.errors: list[str] = []
        self.layers: dict[int, str] = {}  # device by layer
        self.overridden: set[str] = set()
        self.recurrent_bytes: dict[str, int] = {}  # by buffer type, like the next
        self.output_bytes: dict[str, int] = {}
        self.flash_attention: bool | None = None
        self.n_outputs_max = 0
        self._level = 0

    def add(self, level: int, text: bytes, _user_data: object) -> None:
        """Note one line; this is llama.cpp's log callback."""
        self._level = self._level if level == _CONTINUED else level
        if self._level < _ERROR_LEVEL and text.startswith(_CHATTER):
            return
        line = text.decode(errors="replace").strip()
        if self._level >= _ERROR_LEVEL and line:
            self.errors.append(line)
        self._note(line)

    def _note(self, line: str) -> None:
        if match := _LAYER.search(line):
            self.layers[int(match[1])] = match[2]
        elif match := _OVERRIDDEN.search(line):
            self.overridden.add(match[1])
        elif match := _RECURRENT.search(line):
            self._count(self.recurrent_bytes, match)
        elif match := _OUTPUT.search(line):
            self._count(self.output_bytes, match)
        elif match := _N_OUTPUTS.search(line):
            self.n_outputs_max = int(match[1])
        elif "Flash Attention" in line or "flash_attn is not compatible" in line:
            self.flash_attention = line.endswith("enabled")

    @staticmethod
    def _count(sizes: dict[str, int], match: re.Match[str]) -> None:
        sizes[match[1]] = sizes.get(match[1], 0) + round(float(match[2]) * MIB)

    @property
    def error(self) -> str:
        """The first error that llama.cpp logged, without the function's name in front."""
        if not self.errors:
            return "the model was refused without a reason"
        return _FUNCTION_NAMES.sub("", self.errors[0])

    def layer_device(self, tensor: str, *, is_output: bool = False) -> str | None:
        """Return the device a weight's layer is assigned to, None for the input layer.

        A tied embedding is loaded a second time for the output layer (`is_output`).
        """
        if (block := block_of(tensor)) is not None:
            return self.layers.get(block)
        if tensor.startswith(_INPUT_TENSORS) and not is_output:
            return None
        # the output layer is the one after the last block
        return self.layers[max(self.layers)] if self.layers else None
