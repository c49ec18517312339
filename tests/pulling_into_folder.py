"""Pulls of repos into a plain folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.kept.list import Stores, list_stored
from launcher.models.kept.stored_model import StoredModel
from launcher.models.located import Located, PullOptions
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import HubStore
from launcher.progress import Step
from tests.fakes.hub import FakeHub, Fault
from tests.pulling import QUICK, UNIT
from tests.tiny_gguf import tiny_gguf, tiny_split

NAME = "model-Q8_0.gguf"
ONE, TWO = tiny_gguf(seed=1, n_values=100_000), tiny_gguf(seed=2, n_values=60_000)
SHARDS = tiny_split("big-Q4_K_M", 2, n_values=100_000)


@pytest.fixture
def options(tmp_path: Path) -> PullOptions:
    return PullOptions(tuning=QUICK, folder=tmp_path / "plain")


class Pulling:
    """Pulls of repos into the folder, as one user makes them."""

    def __init__(self, hub: FakeHub, endpoint: Endpoint, store: HubStore, options: PullOptions) -> None:
        self.hub, self.endpoint, self.store, self.options = hub, endpoint, store, options
        assert options.folder is not None
        self.folder = options.folder
        self.steps: list[Step] = []

    def locate(self, repo: str, files: dict[str, bytes]) -> Located:
        self.hub.publish(repo, files)
        ref = ModelRef(kind=RefKind.HUB, name=repo)
        found = open_repo(ref, endpoint=self.endpoint, store=self.store)
        self.hub.seen.clear()
        return found

    def into(self, folder: Path | None, located: Located) -> tuple[Path, ...]:
        options = replace(self.options, folder=folder)
        return fetch_hub_files(
            located,
            endpoint=self.endpoint,
            store=self.store,
            options=options,
            on_progress=self.steps.append,
        )

    def pull(self, repo: str, files: dict[str, bytes]) -> tuple[Path, ...]:
        return self.into(self.folder, self.locate(repo, files))

    def interrupted(self, repo: str, files: dict[str, bytes]) -> None:
        def stop(step: Step) -> None:
            if step.file and step.done > UNIT:
                raise KeyboardInterrupt

        located = self.locate(repo, files)
        self.hub.faults.append(Fault(bytes_per_s=400_000))
        with pytest.raises(KeyboardInterrupt):
            fetch_hub_files(
                located, endpoint=self.endpoint, store=self.store, options=self.options, on_progress=stop
            )
        self.hub.faults.clear()

    def listed(self) -> tuple[StoredModel, ...]:
        self.store.keep_folders([self.folder])
        nowhere = self.store.folder / "nowhere"
        return list_stored(Stores(hub_cache=nowhere, models_dir=nowhere), self.store)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
