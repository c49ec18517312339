"""Link or copy matching local files instead of downloading them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from launcher.gguf.model import Shard
from launcher.models.files.copying import Copier
from launcher.models.files.disk_space import same_file_system
from launcher.models.files.other_programs import other_stores
from launcher.models.files.place import Place
from launcher.models.files.reuse import DamagedFile, Verifier
from launcher.models.located import PullOptions
from launcher.system.locks import exclusive_if_free


class LocalCopies:
    """Local files with the sha256 of missing shards."""

    def __init__(
        self, place: Place, verifier: Verifier, copier: Copier, options: PullOptions, hub_cache: Path
    ) -> None:
        self._place, self._verifier, self._copier, self._options = place, verifier, copier, options
        self._hub_cache = hub_cache
        self._sources: dict[str, Path] = {}  # by the shard's name
        self._to_copy: list[Shard] = []  # those whose source cannot be linked

    def link_all(self, missing: list[Shard], damaged: Collection[DamagedFile]) -> list[Shard]:
        """Look for the shards on this machine, link what matches, return the rest."""
        if not missing:
            return []
        self._sources = self._verifier.find_copies(missing, self._folders(), damaged)
        return [shard for shard in missing if not self._link_if_free(shard)]

    def copy_all(self, missing: list[Shard]) -> list[Shard]:
        """Copy what could not be linked; return what is still missing."""
        sources = [(shard, self._sources[shard.name]) for shard in self._to_copy]
        locked = self._copier.copy_all(sources)
        copied = [shard for shard in self._to_copy if shard not in locked]
        for shard in copied:
            self._verifier.remember(self._place.path(shard), shard)
        return [shard for shard in missing if shard not in copied]

    def bring(self, shard: Shard) -> bool:
        """Link or copy the shard if its source still has its hash."""
        # the caller holds the shard's lock
        source = self._sources.get(shard.name)
        if source is None or not self._verifier.has_hash(source, shard):
            return False
        if not self._link(shard, source):
            self._copier.copy(shard, source)
            self._verifier.remember(self._place.path(shard), shard)
        return True

    def has(self, shard: Shard) -> bool:
        return shard.name in self._sources

    def will_copy(self, shard: Shard) -> bool:
        return shard in self._to_copy

    def needs_space(self, shard: Shard) -> bool:
        """Return True if the shard will be downloaded or copied, possibly once another program is done."""
        source = self._sources.get(shard.name)
        return source is None or shard in self._to_copy or not self._can_link(source)

    def will_link_later(self, shard: Shard) -> bool:
        """Return True if a file of `options.later` can be linked. May hash local files."""
        source = self._verifier.find_copies([shard], self._folders(), ()).get(shard.name)
        return source is not None and self._can_link(source)

    def _folders(self) -> tuple[Path, ...]:
        return (*self._options.look_in, *other_stores(self._hub_cache))

    def _can_link(self, source: Path) -> bool:
        folder = self._options.folder
        return folder is None or same_file_system(source, folder)

    def _link_if_free(self, shard: Shard) -> bool:
        source = self._sources.get(shard.name)
        if source is None:
            return False
        with exclusive_if_free(self._place.lock_path(shard)) as free:
            if (
                not free
            ):  # somebody is filling the partial file: the transfer waits for the lock, then `bring`s
                return False
            linked = self._link(shard, source)
        if not linked:
            self._to_copy.append(shard)
        return linked

    def _link(self, shard: Shard, source: Path) -> bool:
        linked = self._place.link(shard, source)
        if linked:
            self._verifier.remember(self._place.path(shard), shard)
        return linked
