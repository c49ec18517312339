"""Layouts by version, held against the order of the fields in llama.cpp's headers."""

from __future__ import annotations

import pytest

from launcher.simulate.abi.layout import SUPPORTED_API_VERSIONS, BufferType, BufferType3, buffer_type_of
from launcher.simulate.abi.llama_api import ContextParametersWithMoeCache, LlamaContextParameters

# struct ggml_backend_buffer_type_i (ggml/src/ggml-backend-impl.h): of 0c1e570, and of b11434
FIELDS = {
    2: ("get_name", "alloc_buffer", "get_alignment", "get_max_size", "get_alloc_size", "is_host"),
    3: (
        *("get_name", "alloc_buffer", "alloc_buffer_n", "get_alignment", "get_max_size"),
        *("get_alloc_size", "get_alloc_size_n", "is_host"),
    ),
}


@pytest.mark.parametrize("version", SUPPORTED_API_VERSIONS)
def test_the_functions_of_a_buffer_type_are_in_the_headers_order(version: int) -> None:
    kind = buffer_type_of(version)
    interface = dict(kind._fields_)["iface"]
    offsets = {name: getattr(interface, name).offset for name, *_ in interface._fields_}
    assert offsets == {name: 8 * place for place, name in enumerate(FIELDS[version])}
    assert kind.device.offset == 8 * len(FIELDS[version])


def test_each_version_has_its_own() -> None:
    assert (buffer_type_of(2), buffer_type_of(3)) == (BufferType, BufferType3)


def test_the_cache_of_experts_comes_after_the_cache_types() -> None:
    names = [name for name, *_ in ContextParametersWithMoeCache._fields_]
    assert names[names.index("type_v") + 1 : names.index("abort_callback")] == ["moe_cache_size"]
    assert [name for name in names if name != "moe_cache_size"] == [
        name for name, *_ in LlamaContextParameters._fields_
    ]
