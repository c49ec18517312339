"""Choose the files of one quant from a repo's listing."""

from __future__ import annotations

import difflib

from launcher.errors import NotFound
from launcher.gguf.companion_names import DRAFT_KINDS
from launcher.gguf.file_names import (
    FileGroup,
    group_files,
    is_model_file,
    pick_group,
    pick_head,
    pick_projector,
)
from launcher.models.refs import ModelRef
from launcher.models.store import Listing

_SHOWN_QUANTS = 12


def list_quants(listing: Listing) -> tuple[FileGroup, ...]:
    """Return the quants to choose from, by size."""
    return group_files((file.name, file.size_bytes) for file in listing.files)


def pick_files(listing: Listing, ref: ModelRef) -> FileGroup:
    """Return the complete group of files that `ref.file` or `ref.quant` names.

    Without either: the quant that llama.cpp's `-hf` would take. Raises NotFound, listing the nearest quants,
    and UsageError if several fit equally.
    """
    groups = list_quants(listing)
    models = {file for group in groups for file in group.names}
    # a companion (a projector, a draft head) is found by its whole name only
    companion = next((file for file in listing.files if file.name == ref.file), None)
    if companion is not None and companion.name not in models:
        return FileGroup(label=companion.name, files=((companion.name, companion.size_bytes),))
    if companion is None and ref.file is not None and not is_model_file(ref.file):
        raise _lacks_companion(listing, ref.file)
    if not groups:
        raise _has_no_model(listing)
    name = ref.file or ref.quant  # a label, or a folder of the repo
    in_folder = [
        group for group in groups if name and all(file.startswith(f"{name}/") for file in group.names)
    ]
    if len(in_folder) == 1:
        group: FileGroup | None = in_folder[0]
    else:  # a folder with several quants: the usual one of those
        group = pick_group(in_folder or groups, None if in_folder else name)
    if group is None:
        raise _lacks_quant(listing, groups, name)
    if not group.is_complete:
        raise NotFound(
            f"{group.label} of {listing.repo} lacks {group.n_missing} of its shards: {group.first_missing}",
            hint=f"launcher plan {listing.repo}:QUANT, with one of {_shown(groups)}",
        )
    return group


def draft_head_beside(listing: Listing, group: FileGroup) -> tuple[str, ...]:
    """Return a sentence that offers the repo's draft head to who uses the group's model, if there is one."""
    head = pick_head(_beside(listing, group), DRAFT_KINDS, group.label)
    if head is None:
        return ()
    kind, name = head
    flags = f"--spec-type draft-{kind} -hfd {listing.repo}"
    return (f"the repo has a draft head, {name}: `-- {flags}` uses it",)


def projector_beside(listing: Listing, group: FileGroup) -> str | None:
    """Return the projector that llama-server loads with the group's model."""
    return pick_projector(_beside(listing, group), group.label)


def _beside(listing: Listing, group: FileGroup) -> list[str]:
    """List the files that are no models; none beside one of them."""
    models = {file for one in list_quants(listing) for file in one.names}
    others = [file.name for file in listing.files if file.name not in models]
    return others if set(group.names).isdisjoint(others) else []


def _has_no_model(listing: Listing) -> NotFound:
    files = [file.name for file in listing.files if file.name.lower().endswith(".gguf")]
    name = listing.repo.partition("/")[2]
    if files:
        hint = f"it has {', '.join(files[:_SHOWN_QUANTS])}: name one by its whole name"
    elif name.lower().endswith("gguf"):
        hint = f"launcher search {name.lower().removesuffix('gguf').strip('-_.') or name}"
    else:
        hint = f"launcher search {name}"
    return NotFound(f"{listing.repo} has no GGUF model at {listing.commit[:8]}", hint=hint)


def _lacks_quant(listing: Listing, groups: tuple[FileGroup, ...], name: str | None) -> NotFound:
    if name is None:
        return NotFound(
            f"{listing.repo} has {len(groups)} quants and none of them is the usual one",
            hint=f"launcher plan {listing.repo}:{groups[0].label}, or one of {_shown(groups)}",
        )
    near = difflib.get_close_matches(name.upper(), [group.label.upper() for group in groups], n=3)
    there = f"the nearest are {', '.join(near)}" if near else f"it has {_shown(groups)}"
    return NotFound(
        f"{listing.repo} has no {name}",
        hint=f"{there}: launcher plan {listing.repo}:{near[0] if near else groups[0].label}",
    )


def _lacks_companion(listing: Listing, name: str) -> NotFound:
    there = [file.name for file in listing.files if not is_model_file(file.name)]
    same = [file for file in there if file.rpartition("/")[2] == name.rpartition("/")[2]]
    if same:
        hint = f"it lies at {same[0]} there"
    elif there:
        hint = f"of such files it has {', '.join(there)}: name one by its whole name"
    else:
        hint = f"{listing.repo} has none of such files: name one of another repo, or its path"
    return NotFound(f"{listing.repo} has no {name}", hint=hint)


def _shown(groups: tuple[FileGroup, ...]) -> str:
    labels = list(dict.fromkeys(group.label for group in groups))
    return ", ".join(labels[:_SHOWN_QUANTS]) + (", …" if len(labels) > _SHOWN_QUANTS else "")
