"""Open the companions in a Hub repo: a draft head, a projector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from launcher.gguf.file_names import pick_head
from launcher.models.catalogue import Sources
from launcher.models.located import Located
from launcher.models.refs import ModelRef, parse_ref
from launcher.models.store import Listing

# What talks to the Hub is imported inside functions: huggingface_hub's client takes 0.2 s to import.


def open_draft_head(text: str, kinds: Sequence[str], sources: Sources) -> tuple[str, Located] | None:
    """Open a Hub repo's draft head of the first of `kinds` it has, with its kind; None without one.

    Raises what `resolve` raises.
    """
    # kinds: `mtp`, `eagle3`
    ref, listing = _listed(text, sources)
    picked = pick_head((file.name for file in listing.files), kinds, ref.quant)
    if picked is None:
        return None
    kind, name = picked
    return kind, _open_file(listing, ref, name, sources)


def open_projector(text: str, sources: Sources) -> Located | None:
    """Open the projector that llama-server loads with a Hub repo's model; None without one.

    Raises what `resolve` raises.
    """
    from launcher.models.hub.quants import pick_files, projector_beside

    ref, listing = _listed(text, sources)
    name = projector_beside(listing, pick_files(listing, ref))
    return None if name is None else _open_file(listing, ref, name, sources)


def _listed(text: str, sources: Sources) -> tuple[ModelRef, Listing]:
    from launcher.models.hub.repo import list_repo

    ref = parse_ref(text, profile_names=(), path_exists=lambda _: False, hub_url=sources.endpoint.url)
    return ref, list_repo(ref, endpoint=sources.endpoint, store=sources.store)


def _open_file(listing: Listing, ref: ModelRef, name: str, sources: Sources) -> Located:
    from launcher.models.hub.headers import open_group
    from launcher.models.hub.quants import pick_files

    files = pick_files(listing, replace(ref, quant=None, file=name))
    return open_group(listing, files, endpoint=sources.endpoint, store=sources.store)
