"""Open a profile's quant without its files: by saved headers, or its recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from launcher.errors import LauncherError
from launcher.gguf.file_names import ShardName
from launcher.models.located import Located, UnreachableFiles
from launcher.models.profiles.made_headers import make_headers
from launcher.models.profiles.profile import ModelProfile, ProfileQuant
from launcher.models.saved import read_saved


def open_without_files(
    profile: ModelProfile, quant: ProfileQuant, headers_dirs: tuple[Path, ...], cause: LauncherError
) -> Located:
    """Open what a profile knows of a quant. Raises `cause` if that is nothing."""
    saved = shipped_headers(profile, quant, headers_dirs)
    if saved is not None:
        path, located = saved
        return replace(located, notes=(f"headers as saved in {path.name}: {cause.message}",))
    made = make_headers(profile, quant)
    if made is None:
        raise cause
    model, raw, note = made
    return Located(
        model=model,
        raw_headers=(raw,),
        files=UnreachableFiles(
            repo=quant.repo,
            file=_first_file(quant),
            is_name_known=quant.file is not None,
            cause=cause.message,
        ),
        notes=(f"{note}; the files were not looked at: {cause.message}",),
    )


def _first_file(quant: ProfileQuant) -> str:
    """Return the first shard's name, or a placeholder for it."""
    if quant.file:
        return quant.file
    # As repos of quants call their files.
    stem = f"{quant.repo.rpartition('/')[2].removesuffix('-GGUF')}-{quant.label}"
    if quant.n_shards is None:
        return f"FIRST-SHARD-OF-{stem}.gguf"
    return (
        f"{stem}.gguf"
        if quant.n_shards == 1
        else ShardName(stem=stem, index=1, count=quant.n_shards).sibling(1)
    )


def shipped_headers(
    profile: ModelProfile, quant: ProfileQuant, headers_dirs: tuple[Path, ...]
) -> tuple[Path, Located] | None:
    """Return a quant's saved headers and their path, if shipped."""
    for folder in headers_dirs:
        path = folder / f"{profile.name}-{quant.label}.headers"
        if path.is_file():
            return path, read_saved(path)
    return None
