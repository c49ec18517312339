"""The layout of llama.h's parameters, told by the defaults that a library answers with."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from ctypes import CFUNCTYPE, Structure, c_void_p
from typing import Any

import pytest

from launcher.engine.find import Engine
from launcher.simulate.abi.layout_check import Unavailable
from launcher.simulate.abi.llama_api import (
    MODEL_LAYOUTS,
    LlamaContextParameters,
    LlamaModelParameters,
    ModelParametersBeforeLazy,
    known_layout,
)

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="a structure is returned otherwise there"
)


def answers(raw: bytes) -> Any:
    """Make a C function that returns these bytes as a structure."""

    def write(room: int) -> None:
        ctypes.memmove(room, raw, len(raw))

    return CFUNCTYPE(None, c_void_p)(write)


def defaults(layout: type[Structure], **changes: int) -> bytes:
    (values,) = (values for known, values in MODEL_LAYOUTS if known is layout)
    parameters = layout(**{**values, **changes})
    last = getattr(layout, layout._fields_[-1][0])
    return bytes(parameters)[: last.offset + last.size]


@pytest.mark.parametrize("layout", [LlamaModelParameters, ModelParametersBeforeLazy])
def test_each_layout_is_told_by_its_defaults(layout: type[Structure]) -> None:
    assert layout is known_layout(answers(defaults(layout)), MODEL_LAYOUTS)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw + b"\0",
        lambda raw: raw[:-1],
        lambda _: defaults(LlamaModelParameters, main_gpu=1),
        lambda _: bytes(LlamaContextParameters()),
        lambda _: b"",
    ],
)
def test_any_other_is_refused(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Unavailable, match=r"llama\.h"):
        known_layout(answers(change(defaults(LlamaModelParameters))), MODEL_LAYOUTS)


_BINDINGS = """
import json
from llama_cpp import llama_cpp
layouts = (llama_cpp.llama_model_params, llama_cpp.llama_context_params)
print(json.dumps([
    [[name, getattr(layout, name).offset, getattr(layout, name).size] for name, *_ in layout._fields_]
    for layout in layouts
]))
"""


def test_the_pinned_layouts_are_those_of_the_bindings(engine: Engine) -> None:
    """llama-cpp-python states llama.h of the pinned commit too: field by field, offset by offset."""
    done = subprocess.run(
        [sys.executable, "-c", _BINDINGS],
        env={**os.environ, "LLAMA_CPP_LIB_PATH": str(engine.folder)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    ours = [
        [[name, getattr(layout, name).offset, getattr(layout, name).size] for name, *_ in layout._fields_]
        for layout in (LlamaModelParameters, LlamaContextParameters)
    ]
    assert json.loads(done.stdout) == ours
