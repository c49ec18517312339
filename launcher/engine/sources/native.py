"""Say what compiling for this very processor would bring, as it was measured. Pure."""

from __future__ import annotations

# Tokens generated in a second of the processor, of those that the engine compiled here makes; default model.
# release: 10.57 against 10.81 ms of CPU a token (prompts 5.26 against 5.77), one thread, six turns; what
#   llama.cpp's release.yml asks of cmake, GCC 12.2, its plugin for Zen 4 on a processor with AVX-512 BF16.
# wheel: 116 against 57 tokens for a second of CPU, one thread, six turns, Q4_1. It runs only on processors
#   with AMX, and engines compiled here leave that out (compile/recipe.py).
_SHARE_OF_NATIVE = {"release": 1.02, "wheel": 2.02}
_NOISE = 0.05  # of a turn


def what_a_build_brings(kind: str) -> str:
    """Return a sentence about an engine of this kind of source, beside one that is built here."""
    share = _SHARE_OF_NATIVE[kind]
    brings = (
        "`launcher engine build` makes one, once, in minutes"
        if share < 1 - _NOISE
        else "building one brings nothing"
    )
    beside = f"{share:.2f}x the tokens of a native build"
    return f"on the processor it generates {beside}, measured with the default model: {brings}"
