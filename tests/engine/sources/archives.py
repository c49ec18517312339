"""Archives for installs that need no real engine: a script that answers as llama-server does."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable

TAG = "b11026"
SCRIPT = """#!/bin/sh
case $1 in
--version) echo "version: 0.5.0 (build {build}, commit 0c1e570)"; echo "built with GNU 13.3.0 for Linux x86_64" ;;
--list-devices) echo "Available devices:"; {devices} ;;
*) echo "-m,    --model FNAME    model path" ;;
esac
"""
RUNS = SCRIPT.format(build=11026, devices="true")


def entry(
    name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
):
    """One entry of an archive, and its bytes."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(content)
    return info, content


def pack(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def engine_archive(
    script: str = RUNS, *, tag: str = TAG, more: Iterable[tuple[tarfile.TarInfo, bytes]] = ()
) -> bytes:
    """An archive in upstream's layout: one folder, programs and libraries in it."""
    return pack(
        entry(f"llama-{tag}/LICENSE", b"MIT"),
        entry(f"llama-{tag}/llama-server", script.encode(), mode=0o755),
        entry(f"llama-{tag}/libggml-cpu-haswell.so", b"library"),
        entry(f"llama-{tag}/libllama.so.0.5.0", b"library"),
        entry(f"llama-{tag}/libllama.so.0", kind=tarfile.SYMTYPE, link="libllama.so.0.5.0"),
        *more,
    )
