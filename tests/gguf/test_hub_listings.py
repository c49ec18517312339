"""Which file of a repo a quant or a name means: a table of listings, paths only."""

# hub_listings.txt: `repo | paths`, where `stem*3` stands for its three shards, then lines `quant or file -> first
# file`. Paths are published ones; those of someone/ are made up in the same manner. `-` asks for no quant; `none` is nothing of that name, `which` a question back.

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import NotFound, UsageError
from launcher.gguf.model import Shard
from launcher.models.hub.quants import pick_files
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import Listing

TABLE = Path(__file__).with_name("hub_listings.txt").read_text().splitlines()


def _paths(words: str) -> list[str]:
    paths = []
    for word in words.split():
        stem, star, count = word.partition("*")
        names = (
            f"{stem}-{index:05d}-of-{int(count or 0):05d}.gguf" for index in range(1, int(count or 0) + 1)
        )
        paths += list(names) if star else [word]
    return paths


def _cases() -> list[tuple[str, list[str], str, str]]:
    cases: list[tuple[str, list[str], str, str]] = []
    repo, paths = "", list[str]()
    for row in TABLE:
        if row.startswith("  "):
            wanted, _, answer = row.strip().partition(" -> ")
            cases.append((repo, paths, wanted, answer))
        else:
            name, _, words = row.partition(" | ")
            repo, paths = name, _paths(words)
    return cases


@pytest.mark.parametrize(("repo", "paths", "wanted", "answer"), _cases())
def test_what_is_asked_for_in_a_repo(repo: str, paths: list[str], wanted: str, answer: str) -> None:
    files = tuple(Shard(name=path, size_bytes=1) for path in paths if path.lower().endswith(".gguf"))
    listing = Listing(repo=repo.partition("#")[0], commit="d" * 40, revision=None, files=files)
    ref = ModelRef(kind=RefKind.HUB, name=listing.repo)
    if wanted.endswith(".gguf"):
        ref = ModelRef(kind=RefKind.HUB, name=listing.repo, file=wanted)
    elif wanted != "-":
        ref = ModelRef(kind=RefKind.HUB, name=listing.repo, quant=wanted)
    try:
        picked = pick_files(listing, ref).names[0]
    except NotFound:
        picked = "none"
    except UsageError:
        picked = "which"
    assert picked == answer


def test_the_table_is_large() -> None:
    assert len(_cases()) >= 150
