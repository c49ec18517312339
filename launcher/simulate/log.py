"""Read from llama.cpp's log what the simulation needs and no function tells.

The lines are those of llama.cpp 0c1e570: src/llama-model.cpp (load_tensors), src/llama-context.cpp,
src/llama-memory-recurrent.cpp, src/llama-model-loader.cpp.
"""

from __future__ import annotations

import re

from launcher.gguf.tensor_names import block_of
from launcher.units import MIB, one_line

# A line may quote the model's own strings, a megabyte long and made to resemble other lines. So it is cut,
# and each pattern begins where a line of llama.cpp does, with bounded parts that divide it in one way only.
_MAX_LINE = 1024  # bytes; the longest line that is read here has about 150
_FUNCTION = r"\w{1,64}: {1,16}"
_LAYER = re.compile(_FUNCTION + r"layer {1,8}(\d{1,6}) assigned to device (\S{1,128}), is_swa", re.ASCII)
_OVERRIDDEN = re.compile(r"tensor (\S{1,64}) \([^()]{1,64}\) buffer type overridden to \S", re.ASCII)
_MIB = r"= {0,16}(\d{1,12}(?:\.\d{1,6})?) MiB"
_RECURRENT = re.compile(_FUNCTION + r"(\S{1,128}) RS buffer size " + _MIB, re.ASCII)
_OUTPUT = re.compile(_FUNCTION + r"(\S{1,128}) {1,16}output buffer size " + _MIB, re.ASCII)
_N_OUTPUTS = re.compile(_FUNCTION + r"n_outputs_max {1,16}= (\d{1,10})", re.ASCII)
_FLASH_ATTENTION = re.compile(_FUNCTION + r"(?:Flash Attention|flash_attn is not compatible)", re.ASCII)
_INPUT_TENSORS = ("token_embd", "per_layer_token_embd", "position_embd", "token_types")
_FUNCTION_NAMES = re.compile(r"(?:[a-z_0-9]{1,64}: )?(?:error loading model: )?(?:check_tensor_dims: )?")
_MAX_ERRORS = 8  # the first is the reason
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
        line = text[:_MAX_LINE].decode(errors="replace").strip()
        if self._level >= _ERROR_LEVEL and line and len(self.errors) < _MAX_ERRORS:
            self.errors.append(one_line(line))
        self._note(line)

    def _note(self, line: str) -> None:
        if match := _LAYER.match(line):
            self.layers[int(match[1])] = match[2]
        elif match := _OVERRIDDEN.match(line):
            self.overridden.add(match[1])
        elif match := _RECURRENT.match(line):
            self._count(self.recurrent_bytes, match)
        elif match := _OUTPUT.match(line):
            self._count(self.output_bytes, match)
        elif match := _N_OUTPUTS.match(line):
            self.n_outputs_max = int(match[1])
        elif _FLASH_ATTENTION.match(line):
            self.flash_attention = line.endswith("enabled")

    @staticmethod
    def _count(sizes: dict[str, int], match: re.Match[str]) -> None:
        sizes[match[1]] = sizes.get(match[1], 0) + round(float(match[2]) * MIB)

    @property
    def error(self) -> str:
        """The first error that llama.cpp logged, without the function's name in front."""
        if not self.errors:
            return "the model was refused without a reason"
        return _FUNCTION_NAMES.sub("", self.errors[0], count=1)

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
