"""List the models that can be asked for: those of the config file, of profiles, and of this disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from launcher.deployment.record import deployment_name
from launcher.errors import BadGguf
from launcher.gateway.admission.state import Bytes, group_place
from launcher.gateway.config import GatewayConfig, ModelConfig
from launcher.gguf.companion_names import companion_kind
from launcher.gguf.file_names import shard_name
from launcher.models.catalogue import Sources
from launcher.models.kept.list import list_stored, stores_here
from launcher.models.kept.stored_model import HUB, StoredModel
from launcher.models.profiles.profile import Mode, ModelProfile, ProfileQuant
from launcher.system.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Servable:
    """A model that a request may name."""

    name: str
    ref: str  # what `up` is given
    source: str  # config, profile, disk, running, or replicas
    size_bytes: int | None = None
    used_at: float | None = None
    modes: tuple[Mode, ...] = ()
    config: ModelConfig = ModelConfig()
    replica_of: str | None = None  # it is asked for under this name

    @property
    def key(self) -> str:
        """Return the name of its deployment."""
        return deployment_name(self.name)

    def with_group(self, needs: Bytes) -> Bytes:
        """Return what it takes and its place in its group."""
        group = self.config.group
        return needs if group is None else {**needs, group_place(group): 1}

    def is_among(self, names: frozenset[str] | None) -> bool:
        """Tell if one of these names is its own; None stands for all names."""
        return names is None or not names.isdisjoint({self.name, self.key})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a request's `model` stands for."""

    servable: Servable
    mode: Mode | None = None


class Catalogue:
    """The models by name, and other names for them; a closed one takes up none of what runs beside them."""

    def __init__(
        self, servables: Iterable[Servable], config: GatewayConfig, *, is_closed: bool = False
    ) -> None:
        self.config, self._is_closed = config, is_closed
        self._by_key: dict[str, Servable] = {}
        for servable in servables:
            self._by_key.setdefault(servable.key, servable)
        self._by_name: dict[str, Servable] = {}
        for servable in self._by_key.values():
            self._by_name.setdefault(servable.name.lower(), servable)
            self._by_name.setdefault(servable.ref.lower(), servable)

    def __iter__(self) -> Iterator[Servable]:
        return iter(self._by_key.values())

    def with_running(self, running: Iterable[Servable]) -> Catalogue:
        """Return the catalogue with what runs; a model that is known keeps its settings."""
        new = [
            servable
            for servable in running
            if servable.key not in self._by_key
            and (not self._is_closed or servable.replica_of in self._by_key)
        ]
        return Catalogue([*self._by_key.values(), *new], self.config, is_closed=self._is_closed)

    @property
    def listed(self) -> tuple[Servable, ...]:
        """The models that are shown: their replicas are not, one by one."""
        return tuple(servable for servable in self if servable.replica_of is None)

    def get(self, key: str) -> Servable | None:
        return self._by_key.get(key)

    def find(self, name: str | None) -> Wanted | None:
        """Return what a request for `name` means: a model, an alias, a model's mode, or the default."""
        if name is not None:
            found = self._named(name) or self._in_mode(name)
            if found is not None:
                return found
        default = self.config.default
        fallback = None if default is None else (self._named(default) or self._in_mode(default))
        if fallback is None and name is None and len(self._by_key) == 1:
            return Wanted(servable=next(iter(self._by_key.values())))
        return fallback

    def idle_limit_s(self, servable: Servable) -> float | None:
        """Return after how many idle seconds the model is unloaded; None for never."""
        ttl = servable.config.ttl_s
        return self.config.idle_s if ttl is None else ttl or None

    def group_places(self) -> Bytes:
        """Return how many models of each group may run at once."""
        named = {servable.config.group for servable in self} - {None}
        return {group_place(group): self.config.groups.get(group, 1) for group in named if group is not None}

    def near(self, name: str) -> tuple[str, ...]:
        """Return names like this one."""
        return tuple(get_close_matches(name, [servable.name for servable in self], n=3, cutoff=0.3))

    def _named(self, name: str) -> Wanted | None:
        name = self.config.aliases.get(name, name)
        lower = name.lower().removesuffix(":latest")  # as Ollama's clients write it
        found = self._by_name.get(lower)
        if found is None and lower:
            found = self._by_key.get(deployment_name(lower))
        return None if found is None else Wanted(servable=found)

    def _in_mode(self, name: str) -> Wanted | None:
        base, colon, word = self.config.aliases.get(name, name).rpartition(":")
        wanted = self._named(base) if colon and base else None
        if wanted is None:
            return None
        mode = next((mode for mode in wanted.servable.modes if mode.name == word.lower()), None)
        return None if mode is None else replace(wanted, mode=mode)


def mode_fields(mode: Mode) -> dict[str, object]:
    """Return what a request in this mode says; the client's own fields win."""
    sampling = mode.sampling
    values = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repeat_penalty,
        "presence_penalty": sampling.presence_penalty,
    }
    fields: dict[str, object] = {name: value for name, value in values.items() if value is not None}
    arguments: dict[str, object] = dict(mode.chat_template_kwargs)
    if mode.reasoning is not None:
        arguments.setdefault("enable_thinking", mode.reasoning)
    if arguments:
        fields["chat_template_kwargs"] = arguments
    return fields


def read_servables(settings: Settings, sources: Sources, config: GatewayConfig) -> tuple[Servable, ...]:
    """List what is here: the config file's models, then profiles whose files are here, then other files."""
    stored = [
        model
        for model in list_stored(stores_here(sources.endpoint.cache_dir, settings.models_dir), sources.store)
        if model.is_whole and model.paths and companion_kind(model.paths[0].name) is None
    ]
    of_profiles = [
        (profile, *found[0]) for profile in sources.profiles.usable if (found := _here(profile, stored))
    ]
    taken = {id(model) for _, _, model in of_profiles}
    known = [
        *(_of_profile(profile, quant, model) for profile, quant, model in of_profiles),
        *(_of_disk(model) for model in stored if id(model) not in taken),
    ]
    return (
        *(_configured(name, each, known) for name, each in config.models.items()),
        *known,
    )


def _here(profile: ModelProfile, stored: Iterable[StoredModel]) -> list[tuple[ProfileQuant, StoredModel]]:
    return [(quant, model) for quant in profile.quants for model in stored if _is_quant(quant, model)]


def _is_quant(quant: ProfileQuant, model: StoredModel) -> bool:
    if model.store == HUB:
        return model.name.lower() == f"{quant.repo}:{quant.label}".lower()
    return quant.wheel is not None and model.paths[0].name == quant.wheel.member.rpartition("/")[2]


def _of_profile(profile: ModelProfile, quant: ProfileQuant, model: StoredModel) -> Servable:
    return Servable(
        name=profile.name,
        ref=f"{profile.name}:{quant.name}",
        source="profile",
        size_bytes=model.size_bytes,
        used_at=model.used_at,
        modes=profile.modes,
    )


def _of_disk(model: StoredModel) -> Servable:
    name = model.paths[0].name.removesuffix(".gguf") if model.is_by_path else model.name
    return Servable(
        name=name,
        ref=model.name if model.store == HUB else str(model.paths[0]),
        source="disk",
        size_bytes=model.size_bytes,
        used_at=model.used_at,
    )


def _configured(name: str, config: ModelConfig, known: Iterable[Servable]) -> Servable:
    """Return a model with its owner's settings, and what is known of it from elsewhere."""
    key = deployment_name(name)
    same = next((each for each in known if each.key == key), None)
    if same is not None and config.ref is None:
        return replace(same, config=config)
    ref = config.ref or name
    like = next((each for each in known if ref in {each.name, each.ref}), None)
    made = Servable(name=name, ref=ref if like is None else like.ref, source="config", config=config)
    if like is None:
        return replace(made, size_bytes=_size_of_files(ref))
    return replace(made, size_bytes=like.size_bytes, used_at=like.used_at, modes=like.modes)


def _size_of_files(ref: str) -> int | None:
    """Return the bytes of a model that is named by a file, with its other shards; None for other REFs."""
    file = Path(ref).expanduser()
    shard = shard_name(file.name)
    try:
        names = (file.name,) if shard is None else shard.all_names()
        return sum((file.parent / name).stat().st_size for name in names)
    except (OSError, BadGguf):
        return None
