"""The manifest of a bundle: every file with its size and sha256, and the engine that it brings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from launcher.system.json_object import JsonObject, parse_json

FORMAT = "gguf-launcher bundle 1"

MANIFEST = "manifest.json"
LOCK = "lock.json"
ENGINE = "engine.tar.gz"
SBOM = "sbom.cdx.json"
PROFILE = "profile.toml"
MODEL = "model/"
LICENSES = "licenses/"

MOST_FILES = 1_000  # DeepSeek's largest split has some 200 shards
MOST_MANIFEST_BYTES = 1 << 20
MOST_LOCK_BYTES = 16 << 20
MOST_TEXT_BYTES = 4 << 20  # of a profile, a licence, the bill of materials
MOST_ENGINE_BYTES = 4 << 30  # CUDA's libraries for several generations have 1.5 GB
MOST_MODEL_BYTES = 1 << 45  # 32 TiB

# A part of a name begins with a letter or digit: no `..`, no hidden file. Below the folders lies no other.
_NAME = re.compile(r"(?:model/|licenses/)?[A-Za-z0-9][A-Za-z0-9._+-]{0,89}")
_OF_THE_INSTALL = (MANIFEST, "launcher.lock", LICENSES.rstrip("/"))
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledFile:
    name: str  # in the archive
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledEngine:
    """The one program that a bundle brings."""

    commit: str
    backend: str
    arch: str
    isa: tuple[str, ...]  # what its code takes for granted; empty if it asks the processor
    digest: str  # of program and libraries, as a lock names it
    sha256: str  # of its archive in the bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    name: str
    model_id: str
    made_by: str
    engine: BundledEngine
    files: tuple[BundledFile, ...]  # all but the manifest itself, as they lie

    @property
    def by_name(self) -> Mapping[str, BundledFile]:
        return {file.name: file for file in self.files}


def format_manifest(manifest: Manifest) -> bytes:
    return json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1).encode()


def parse_manifest(text: bytes) -> Manifest:
    """Parse a manifest. Raises ValueError, Malformed among them, for anything else."""
    given = JsonObject(parse_json(text))
    if given.text("format") != FORMAT:
        raise given.malformed("format", f"is not {FORMAT!r}")
    engine = given.object_at("engine")
    files = tuple(_file(each) for each in given.objects_at("files"))
    manifest = Manifest(
        name=given.text("name"),
        model_id=given.text("model_id"),
        made_by=given.text("made_by"),
        engine=BundledEngine(
            commit=engine.text("commit"),
            backend=engine.text("backend"),
            arch=engine.text("arch"),
            isa=engine.texts("isa"),
            digest=_sha256(engine, "digest"),
            sha256=_sha256(engine, "sha256"),
        ),
        files=files,
    )
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", manifest.name):
        raise given.malformed("name", "is no name of a folder")
    if len(manifest.by_name) != len(files):
        raise given.malformed("files", "names a file twice")
    # as they will lie: the model's beside the others, on a disk that may not know upper from lower case
    places = [file.name.removeprefix(MODEL).casefold() for file in files]
    if len({*places, *_OF_THE_INSTALL}) != len(places) + len(_OF_THE_INSTALL):
        raise given.malformed("files", "has two that would lie in one place")
    for name in (LOCK, ENGINE, SBOM):
        if name not in manifest.by_name:
            raise given.malformed("files", f"has no {name}")
    if manifest.by_name[ENGINE].sha256 != manifest.engine.sha256:
        raise given.malformed("engine", f"is not the {ENGINE} of its files")
    if not any(file.name.startswith(MODEL) for file in files):
        raise given.malformed("files", "has no model")
    return manifest


def is_file_name(name: str) -> bool:
    """Tell whether this can be the name of a file in a bundle."""
    known = name in {MANIFEST, LOCK, ENGINE, SBOM, PROFILE} or name.startswith((MODEL, LICENSES))
    return known and _NAME.fullmatch(name) is not None


def most_bytes(name: str) -> int:
    """Return the size that a file of this name may have."""
    if name.startswith(MODEL):
        return MOST_MODEL_BYTES
    of_its_own = {MANIFEST: MOST_MANIFEST_BYTES, LOCK: MOST_LOCK_BYTES, ENGINE: MOST_ENGINE_BYTES}
    return of_its_own.get(name, MOST_TEXT_BYTES)


def _file(given: JsonObject) -> BundledFile:
    name = given.text("name")
    if not is_file_name(name) or name == MANIFEST:
        raise given.malformed("name", "is no file of a bundle")
    size = given.whole("size_bytes", 0, most_bytes(name))
    return BundledFile(name=name, size_bytes=size, sha256=_sha256(given, "sha256"))


def _sha256(given: JsonObject, key: str) -> str:
    text = given.text(key)
    if not _SHA256.fullmatch(text):
        raise given.malformed(key, "is no sha256")
    return text
