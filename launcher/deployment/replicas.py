"""Find the replicas of a model among deployments, and mark those that take no new requests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.deployment.record import Deployment, is_name
from launcher.deployment.records import read_all

_MARK = ".draining"


def replica_name(model: str, number: int) -> str:
    """Return the name of the deployment of a replica, counted from 1."""
    return f"{model}.{number}"


def find_replicas(folder: Path, model: str) -> tuple[Deployment, ...]:
    """Return the deployments that are replicas under this name, by name."""
    entries = [entry for entry in read_all(folder) if isinstance(entry, Deployment)]
    return tuple(
        sorted((each for each in entries if each.options.replica_of == model), key=lambda each: each.name)
    )


def with_replicas(folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, those of replicas in the place of a name that stands for them."""
    found = [(name, find_replicas(folder, name)) for name in names]
    return tuple(each for name, some in found for each in ([one.name for one in some] or [name]))


def draining(folder: Path) -> frozenset[str]:
    """Return the names of deployments that take no new requests."""
    names = (path.name.removesuffix(_MARK) for path in folder.glob(f"*{_MARK}"))
    return frozenset(name for name in names if is_name(name))


@contextlib.contextmanager
def drained(folder: Path, name: str) -> Iterator[None]:
    """Have the gateway send the deployment no new requests meanwhile."""
    mark = folder / f"{name}{_MARK}"
    mark.touch(mode=0o600)
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)
