"""What a bundle has beside the weights: the engine as an archive, licences, a bill of materials."""

from __future__ import annotations

import gzip
import re
import sys
import tarfile
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from launcher import __version__
from launcher.commands.bundle.manifest import ENGINE, LICENSES, MODEL, BundledFile
from launcher.commands.planned import Planned
from launcher.engine.find import RPC_SERVER, SERVER, Engine
from launcher.errors import UsageError
from launcher.gguf.metadata import Value

INSTALL = f"{sys.executable} -m pip install 'gguf-launcher[bundle]'"

# llama.cpp's own LICENSE, for engines that have none beside them: a copy of the program needs it.
_LLAMA_CPP_LICENSE = """\
MIT License

Copyright (c) 2023-2026 The ggml authors

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
_CUDA_LICENSE = """\
NVIDIA's libcudart, libcublas and libcublasLt: the CUDA Toolkit's End User License Agreement, whose
attachment A names them as redistributable. Its text is not beside them: https://docs.nvidia.com/cuda/eula/
"""
# LICENSE is llama.cpp's, LICENSE-jsonhpp and CUDA_LICENSE.txt are of others
_LICENSE = re.compile(r"(?:LICENSE(?:-([a-z0-9]{1,40}))?|([A-Z0-9]{1,40})_LICENSE)(?:\.txt)?")
_LIBRARY = re.compile(r"lib[A-Za-z0-9_+-]+\.so(?:\.[0-9]+)*")
_PROGRAMS = (SERVER, "llama-bench", "llama-fit-params", RPC_SERVER, "test-llama-archs")
_MOST_LICENSE_BYTES, _MOST_LICENSES = 1 << 20, 20


def check_sbom_library() -> None:
    """Raise UsageError if the library that writes the bill of materials is not installed."""
    try:
        import_module("cyclonedx.output.json")
    except ImportError as error:
        raise UsageError(
            f"a bundle has a bill of materials, and what writes it is not installed: {error}", hint=INSTALL
        ) from error


def write_engine(engine: Engine, path: Path) -> None:
    """Write an engine's programs and libraries as a .tar.gz, the same for the same files."""
    # only what belongs to it: a llama-server of the system lies among other programs
    files = [entry for entry in sorted(engine.folder.iterdir()) if entry.is_file() and _belongs(entry.name)]
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for entry in files:
            is_link = entry.is_symlink() and entry.resolve().parent == engine.folder.resolve()
            info = tarfile.TarInfo(f"engine/{entry.name}")
            info.mode = 0o755
            if is_link:
                info.type, info.linkname = tarfile.SYMTYPE, entry.resolve().name
                archive.addfile(info)
                continue
            info.size = entry.stat().st_size
            with entry.open("rb") as content:
                archive.addfile(info, content)


def _belongs(name: str) -> bool:
    return name in _PROGRAMS or any(pattern.fullmatch(name) for pattern in (_LIBRARY, _LICENSE))


def licenses_of(planned: Planned, engine: Engine) -> dict[str, bytes]:
    """Return the texts by name: those of the engine, and what model and profile say of theirs."""
    texts = {f"{LICENSES}model.txt": _model_license(planned).encode()}
    for path in sorted(engine.folder.glob("*LICENSE*"))[:_MOST_LICENSES]:
        named = _LICENSE.fullmatch(path.name)
        if named is not None and path.is_file():
            of = (named[1] or named[2] or "llama.cpp").lower()
            with path.open("rb") as file:
                texts[f"{LICENSES}{of}.txt"] = file.read(_MOST_LICENSE_BYTES)
    texts.setdefault(f"{LICENSES}llama.cpp.txt", _LLAMA_CPP_LICENSE.encode())
    if any(engine.folder.glob("libcublas.so*")):
        texts.setdefault(f"{LICENSES}cuda.txt", _CUDA_LICENSE.encode())
    return texts


def license_name(planned: Planned) -> str | None:
    """Return the model's licence as its profile or its file names it."""
    if planned.target.profile is not None:
        return planned.target.profile.license
    return _text_of(_metadata(planned).get("general.license"))


def _model_license(planned: Planned) -> str:
    metadata = _metadata(planned)
    profile = planned.target.profile
    lines = [f"{planned.target.model_id}: {license_name(planned) or 'its file names no licence'}"]
    for key in ("general.license.name", "general.license.link", "general.source.url", "general.repo_url"):
        value = _text_of(metadata.get(key))
        if value is not None:
            lines.append(f"{key}: {value}")
    if profile is not None:
        lines.append(f"page: {profile.homepage}")
    lines.append("The licence's text is not in the file; it is on the model's page.")
    return "\n".join(lines) + "\n"


def sbom_of(planned: Planned, files: Iterable[BundledFile]) -> bytes:
    """Return the bill of materials in CycloneDX 1.6: the engine and every file of the model."""
    model, output = import_module("cyclonedx.model"), import_module("cyclonedx.output")
    component = import_module("cyclonedx.model.component")
    bom = import_module("cyclonedx.model.bom").Bom()
    kinds, make = component.ComponentType, component.Component
    licenses = import_module("cyclonedx.factory.license").LicenseFactory()

    def hashes(file: BundledFile) -> list[Any]:
        return [model.HashType(alg=model.HashAlgorithm.SHA_256, content=file.sha256)]

    bom.metadata.component = make(
        type=kinds.DATA, name=planned.target.model_id, bom_ref="bundle", version=__version__
    )
    known, name = planned.capabilities, license_name(planned)
    for file in files:
        if file.name == ENGINE:
            version = known.version.commit or known.version.text if known else "unknown"
            bom.components.add(
                make(
                    type=kinds.APPLICATION,
                    name="llama.cpp",
                    version=version,
                    bom_ref=file.name,
                    hashes=hashes(file),
                    licenses=[licenses.make_from_string("MIT")],
                )
            )
        elif file.name.startswith(MODEL):
            bom.components.add(
                make(
                    type=kinds.MACHINE_LEARNING_MODEL,
                    name=file.name.removeprefix(MODEL),
                    bom_ref=file.name,
                    hashes=hashes(file),
                    licenses=[licenses.make_from_string(name)] if name else (),
                )
            )
    bom.register_dependency(bom.metadata.component, bom.components)
    schema = import_module("cyclonedx.schema")
    outputter = output.make_outputter(bom, schema.OutputFormat.JSON, schema.SchemaVersion.V1_6)
    text: str = outputter.output_as_string(indent=1)
    return text.encode()


def _metadata(planned: Planned) -> Mapping[str, Value]:
    return {} if planned.located is None else planned.located.model.metadata


def _text_of(value: Value | None) -> str | None:
    return value[:500] if isinstance(value, str) else None
