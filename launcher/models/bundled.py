"""Find the model of an installed bundle by the name that it came with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.models.local import open_path
from launcher.models.located import Located
from launcher.system.json_object import JsonObject, parse_json
from launcher.system.small_files import read_small_text

BUNDLE_LOCK = "launcher.lock"

_DIGEST = re.compile(r"-[0-9a-f]{8}")  # of the manifest, at the end of a folder's name
_MOST_LOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledModel:
    """The model of an installed bundle."""

    model_id: str
    path: Path  # the first shard
    lock: Path
    n_companions: int  # which are loaded only as the lock has it

    def open(self) -> Located:
        """Open its file. Raises what `open_path` raises."""
        located = open_path(self.path)
        note = f"its file is that of the bundle in {self.path.parent}"
        if self.n_companions:
            note += f", whose {self.n_companions} companions are loaded by launcher up --locked {self.lock}"
        return replace(located, notes=(*located.notes, note))


def bundles_folder(models_dir: Path) -> Path:
    return models_dir / "bundles"


def find_bundled(models_dir: Path, name: str) -> BundledModel | None:
    """Return the model that a bundle brought under this name, the newest of several.

    A bundle is called as its folder, as its model, and as the REF that it was made of, unless that is a path.
    """
    if name.startswith(("/", "./", "../", "~")):
        return None
    named = [bundled for names, bundled in _installed(models_dir) if name in names]
    return max(named, key=lambda bundled: bundled.lock.stat().st_mtime_ns, default=None)


def _installed(models_dir: Path) -> Iterator[tuple[set[str], BundledModel]]:
    for lock in sorted(bundles_folder(models_dir).glob(f"[!.]*/{BUNDLE_LOCK}")):
        try:
            given = JsonObject(parse_json(read_small_text(lock, most_bytes=_MOST_LOCK_BYTES)))
            first = lock.parent / Path(given.objects_at("shards")[0].text("name")).name
            bundled = BundledModel(
                model_id=given.text("model_id"),
                path=first,
                lock=lock,
                n_companions=len(given.objects_at("beside")),
            )
            names = {given.text("ref"), bundled.model_id, _DIGEST.sub("", lock.parent.name)}
        except (OSError, ValueError, IndexError):  # somebody else's folder
            continue
        if first.is_file():
            yield names, bundled
