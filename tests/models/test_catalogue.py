"""What a REF becomes: profiles, hub repos, URLs and paths, against the local Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest

from launcher.errors import NotFound, UsageError
from launcher.models.catalogue import Sources, resolve, sources_of
from launcher.models.fetch import fetch
from launcher.models.hub.endpoint import Endpoint
from launcher.models.located import DeferredFiles
from launcher.models.profiles.profile import pick_profile, quants_to_try
from launcher.models.saved import read_saved, save_headers
from launcher.models.store import HubStore
from launcher.progress import silent
from launcher.system.settings import profiles_dir, read_settings
from tests.fakes.hub import FakeHub, Fault
from tests.pulling import QUICK_READS
from tests.tiny_gguf import tiny_gguf, tiny_split

REPO = "maker/Model-GGUF"
SIZES = {"Q8_0": 8192, "Q4_K_M": 4096, "Q3_K_S": 3072, "Q2_K": 2048}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running:
        running.publish(
            REPO,
            {f"Model-{label}.gguf": tiny_gguf(n_values=size) for label, size in SIZES.items()}
            | {"mmproj-F16.gguf": tiny_gguf(), "README.md": b"#"},
        )
        yield running
    huggingface_hub.close_session()


@pytest.fixture
def sources(hub: FakeHub, tmp_path: Path) -> Sources:
    real = sources_of(read_settings())
    return Sources(
        endpoint=Endpoint(url=hub.url, token=None, cache_dir=tmp_path / "hf" / "hub", policy=QUICK_READS),
        store=HubStore(folder=tmp_path / "cache" / "hub"),
        models_dir=tmp_path / "models",
        profiles=real.profiles,
    )


def quants(text: str, sources: Sources, quant: str | None = None) -> list[str]:
    return [candidate.quant for candidate in resolve(text, quant, sources).candidates]


def test_the_default_model_is_planned_by_the_headers_we_ship(hub: FakeHub, sources: Sources) -> None:
    """Nobody is asked, nothing is fetched, and no header of another file is taken."""
    shipped = replace(sources, headers_dirs=(profiles_dir() / "headers",))
    (candidate,) = resolve("smollm2-135m", None, shipped).candidates
    located = candidate.open(silent)
    assert isinstance(located.files, DeferredFiles)
    assert (hub.seen, list(sources.models_dir.rglob("*"))) == ([], [])
    (quant,) = quants_to_try(pick_profile(sources.profiles, "smollm2-135m"), None)
    (shard,) = located.model.shards
    assert (shard.size_bytes, shard.sha256) == (quant.size_bytes, quant.sha256)
    offline = replace(shipped, endpoint=replace(shipped.endpoint, offline=True))
    (candidate,) = resolve("smollm2-135m", None, offline).candidates
    with pytest.raises(NotFound):
        fetch(candidate.open(silent), offline, silent)


def test_the_headers_we_ship_are_the_files(default_model: Path) -> None:
    (raw,) = read_saved(profiles_dir() / "headers" / "smollm2-135m-Q4_1.headers").raw_headers
    with default_model.open("rb") as file:
        assert file.read(len(raw)) == raw


def test_a_repo_without_a_quant_is_the_usual_one_then_smaller_ones(sources: Sources) -> None:
    assert quants(REPO, sources) == ["Q4_K_M", "Q3_K_S", "Q2_K"]


@pytest.mark.parametrize(
    ("text", "quant"), [(f"{REPO}:Q8_0", None), (REPO, "q8_0"), (f"{REPO}/Model-Q8_0.gguf", None)]
)
def test_a_named_quant_is_the_only_candidate(sources: Sources, text: str, quant: str | None) -> None:
    target = resolve(text, quant, sources)
    assert [candidate.quant for candidate in target.candidates] == ["Q8_0"]
    assert target.model_id == f"{REPO}:Q8_0"


def test_two_different_quants_are_refused(sources: Sources) -> None:
    with pytest.raises(UsageError, match="name two quants"):
        resolve(f"{REPO}:Q8_0", "Q2_K", sources)


def test_a_profile_keeps_its_order_and_its_name(sources: Sources) -> None:
    target = resolve("kimi-k2.5", None, sources)
    assert target.profile is not None
    assert target.model_id == "kimi-k2.5"
    assert [one.quant for one in target.candidates] == [
        one.name for one in quants_to_try(target.profile, None)
    ]
    assert quants("kimi-k2.5:tq1_0", sources) == ["TQ1_0"]


def test_a_hub_that_does_not_answer_is_asked_once_for_all_quants(sources: Sources, hub: FakeHub) -> None:
    """Nor is its listing tried again and again: planning from recipes works without a network, at once."""
    hub.faults.append(Fault(where="api", status=503))
    located = [one.open(silent) for one in resolve("kimi-k2.5", None, sources).candidates]
    assert all("not looked at" in note for one in located for note in one.notes)
    assert len(hub.seen) == QUICK_READS.attempts


def test_the_files_of_a_hub_model_arrive_whole(sources: Sources, hub: FakeHub) -> None:
    located = resolve(f"{REPO}:Q2_K", None, sources).candidates[0].open(silent)
    [path] = fetch(located, sources, silent)
    assert path.read_bytes() == tiny_gguf(n_values=SIZES["Q2_K"])
    assert path.is_relative_to(sources.endpoint.cache_dir)


def test_any_shard_names_the_whole_local_model(sources: Sources, tmp_path: Path) -> None:
    shards = tiny_split("Big-Q4_0", 3)
    for name, content in shards.items():
        (tmp_path / name).write_bytes(content)
    located = (
        resolve(str(tmp_path / "Big-Q4_0-00002-of-00003.gguf"), None, sources).candidates[0].open(silent)
    )
    assert [path.name for path in fetch(located, sources, silent)] == sorted(shards)


def test_saved_headers_plan_and_do_not_run(sources: Sources, tmp_path: Path) -> None:
    located = resolve(f"{REPO}:Q2_K", None, sources).candidates[0].open(silent)
    kept = save_headers(located, tmp_path / "kept.gguf.zip")
    again = resolve(str(kept), None, sources).candidates[0].open(silent)
    assert again.model.headers == located.model.headers
    with pytest.raises(NotFound, match="headers only"):
        fetch(again, sources, silent)
