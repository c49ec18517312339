"""A pull in a process of its own, to be killed: `python pulling.py URL CACHE STORE REPO:QUANT [PATIENCE]`."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.located import PullOptions
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import HubStore
from launcher.models.transfer.tuning import Tuning
from launcher.system.network.policy import Policy

UNIT = 1 << 16
QUICK = Tuning(
    span_bytes=4 * UNIT,
    unit_bytes=UNIT,
    buffer_bytes=1 << 14,
    patience_s=10.0,
    attempts=4,
    worthwhile_bytes=1 << 12,
    backoff_s=0.001,
)
"""Small enough that every shard takes several requests, and nothing waits for long."""

QUICK_READS = Policy(patience_s=5.0, backoff_s=0.001)
"""Tries as often as in use, without the waits between."""


def start_pull(endpoint: Endpoint, store: HubStore, ref: str, *more: str) -> subprocess.Popen[str]:
    """It prints `pulling` once the headers are read, and the paths at the end."""
    words = [sys.executable, __file__, endpoint.url, str(endpoint.cache_dir), str(store.folder), ref, *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def damage(path: Path, content: bytes) -> None:
    """As a failing disk does: nobody wrote to the file."""
    about = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def main(url: str, cache: str, store: str, ref: str, patience_s: str = "10") -> None:
    endpoint = Endpoint(url=url, token=None, cache_dir=Path(cache))
    repo, _, quant = ref.partition(":")
    kept = HubStore(folder=Path(store))
    located = open_repo(ModelRef(kind=RefKind.HUB, name=repo, quant=quant), endpoint=endpoint, store=kept)
    print("pulling", flush=True)
    options = PullOptions(tuning=replace(QUICK, patience_s=float(patience_s)))
    for path in fetch_hub_files(located, endpoint=endpoint, store=kept, options=options):
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
