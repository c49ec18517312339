"""Put an engine where engines are found: whole, or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

from launcher.engine.find import RECORD, RECORD_FORMAT, BuildRecord, Engine, read_engine
from launcher.errors import EngineFailed


def put_in_place(made: Path, record: BuildRecord, target: Path) -> Engine:
    """Write engine.json into the finished folder `made`, sync it, and rename it to `target`.

    Raises EngineFailed, OSError.
    """
    text = json.dumps({"format": RECORD_FORMAT, **dataclasses.asdict(record)}, indent=2)
    (made / RECORD).write_text(text + "\n")
    # After a power cut a renamed folder must not hold empty files.
    for path in made.iterdir():
        sync(path)
    sync(made)
    shutil.rmtree(target, ignore_errors=True)  # a folder without a readable record
    made.rename(target)
    sync(target.parent)
    engine = read_engine(target)
    if engine is None:
        raise EngineFailed(f"{target} is gone since it was put there", hint="launcher engine list")
    return engine


def sync(path: Path) -> None:
    """Have the disk keep what was written. Raises OSError."""
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
