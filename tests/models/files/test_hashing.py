"""Files compared with their hashes, each pair by itself."""

from __future__ import annotations

import hashlib
from itertools import permutations
from pathlib import Path

import pytest

from launcher.models.files.hashing import hash_files
from launcher.models.store import HubStore
from launcher.progress import silent


@pytest.mark.parametrize("known", [(), (0,), (0, 1)], ids=["none known", "one known", "both known"])
@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_two_files_of_one_size_are_not_taken_for_each_other(
    tmp_path: Path, store: HubStore, order: tuple[int, ...], known: tuple[int, ...]
) -> None:
    """Shards of a set may have the very same size: every file is compared with every hash."""
    paths = (tmp_path / "1.gguf", tmp_path / "2.gguf")
    hashes = tuple(hashlib.sha256(path.name.encode()).hexdigest() for path in paths)
    for path in paths:
        path.write_bytes(path.name.encode())
    for one in known:
        store.keep_verified(paths[one], hashes[one])
    pairs = [(one, other) for one in (0, 1) for other in (0, 1)]
    asked = [pairs[at] for at in order]
    found = hash_files([(paths[one], hashes[other]) for one, other in asked], store, silent)
    assert found == tuple(hashes[one] for one, _ in asked)
