"""Describe a model before looking at its files: quants, context, modes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

from launcher.errors import LauncherError, NotFound
from launcher.gguf.synthesis import MetadataValue, TensorFamily, TypeRule
from launcher.models.profiles.near import near_names
from launcher.system.toml_table import TomlScalar


class SizeBasis(StrEnum):
    """How far a size in a profile can be trusted."""

    EXACT = "exact"  # bytes from a file listing, at the pinned revision or in the pinned wheel
    PUBLISHED = "published"  # a rounded figure from a page or a log


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelSource:
    """A model file inside a Python wheel: `member` of `package==version`. Digests are in hex."""

    package: str
    version: str
    wheel_sha256: str
    member: str  # the file's path inside the wheel
    size_bytes: int
    sha256: str  # of the file


class RecipeBasis(StrEnum):
    """How sure a quant's tensor types are."""

    PUBLISHED = "published"  # the model's makers say what each kind of tensor is
    ASSUMED = "assumed"  # only the file's size is known: the split is made up so that it meets the size


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantRecipe:
    """The type of each tensor of a quant."""

    basis: RecipeBasis
    source: str  # who says so, or what was assumed
    rules: tuple[TypeRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedArchitecture:
    """A model's metadata and tensor shapes as its GGUF files would have them."""

    source: str  # where they were published
    metadata: tuple[tuple[str, MetadataValue], ...]
    families: tuple[TensorFamily, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedShape:
    """A model's dimensions, of which its metadata and tensors are built when they are needed."""

    source: str  # where they were published
    architecture: str
    dimensions: tuple[tuple[str, TomlScalar], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileQuant:
    """A quant and where its files are."""

    name: str  # what people type: `Q2_K_XL`
    aliases: tuple[str, ...]
    repo: str
    label: str  # its name in the Hub repo: `UD-Q2_K_XL`
    file: str | None
    revision: str | None  # the pinned commit; an exact size and a sha256 hold for it
    n_shards: int | None
    size_bytes: int | None
    size_basis: SizeBasis | None
    size_source: str | None
    sha256: str | None  # of quants of one file only
    quality: str
    quality_source: str
    wheel: WheelSource | None  # the same file, for machines that reach a package index and not the Hub
    recipe: QuantRecipe | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All names that select this quant, compared without case."""
        return (self.name, self.label, *self.aliases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling values recommended by the model's makers; None is left to llama-server."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A way to run the model."""

    name: str
    sampling: Sampling
    reasoning: bool | None  # llama-server's switch for templates that know `enable_thinking`
    chat_template_kwargs: tuple[tuple[str, TomlScalar], ...]  # for templates with names of their own
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRange:
    """Context lengths in tokens."""

    max: int  # what the model was trained for
    default: int  # what to plan for if nothing was requested
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiEquivalent:
    """The same model as a paid service; prices in US dollars per million tokens, as of a date."""

    provider: str
    base_url: str
    model_id: str
    input_usd_per_mtok: float
    cached_input_usd_per_mtok: float | None
    output_usd_per_mtok: float
    source: str
    as_of: str


class Purpose(StrEnum):
    """What a model is for."""

    CHAT = "chat"
    CODING = "coding"
    VISION = "vision"
    EMBEDDING = "embedding"
    RERANK = "rerank"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A published result of the unquantised model."""

    benchmark: str
    purpose: Purpose  # what it measures
    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionFile:
    """A file of a quant's repo that is loaded beside the model: a projector or a draft head."""

    repo: str
    file: str
    size_bytes: int | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmEntry:
    """The model's safetensors, which vLLM serves."""

    repo: str
    quality: str  # of these weights, after "vLLM with"
    weight_bytes: int  # of all files
    tower_bytes: int | None  # of a vision encoder
    source: str
    flags: tuple[str, ...]
    config: tuple[tuple[str, TomlScalar], ...]  # of its config.json, as far as memory goes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """All that is known about a model before looking at its files."""

    name: str
    title: str
    description: str
    license: str
    homepage: str
    context: ContextRange
    quants: tuple[ProfileQuant, ...]  # in order of quality, best first
    default_quant: str | None  # None: the first of `quants` that fits
    modes: tuple[Mode, ...]  # the first is the default
    api: ApiEquivalent | None
    architecture: PublishedArchitecture | PublishedShape | None = None
    flags: tuple[str, ...] = ()  # llama-server's, as if typed after `--`
    purposes: tuple[Purpose, ...] = (Purpose.CHAT,)
    scores: tuple[Score, ...] = ()
    projector: CompanionFile | None = None
    draft: CompanionFile | None = None  # a multi-token prediction head, or a small model
    engine: str | None = None  # the name, or its beginning, of the engine that it wants
    vllm: VllmEntry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenProfile:
    """A profile that cannot be used, and why."""

    name: str
    file: str
    error: LauncherError


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """All profiles, by name."""

    # a broken one hides nothing but a profile of its own name

    usable: tuple[ModelProfile, ...]
    broken: tuple[BrokenProfile, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All names; `pick_profile` says what is wrong with a broken profile."""
        return (*(profile.name for profile in self.usable), *(profile.name for profile in self.broken))


def pick_profile(profiles: Profiles, name: str) -> ModelProfile:
    """Return the profile called `name`. Raises NotFound, or the UsageError of a broken file."""
    wanted = name.lower()
    for broken in profiles.broken:
        if broken.name == wanted:
            raise broken.error
    for profile in profiles.usable:
        if profile.name == wanted:
            return profile
    close = near_names(wanted, (profile.name for profile in profiles.usable))
    hint = f"launcher profiles show {close[0]}" if close else "launcher models"
    raise NotFound(f"no profile is called {name!r}", hint=hint)


def quants_to_try(profile: ModelProfile, wanted: str | None) -> tuple[ProfileQuant, ...]:
    """Return the quants a plan may take, best first: `wanted`, else the default, else all.

    Raises NotFound for a quant the profile does not list.
    """
    wanted = wanted or profile.default_quant
    if wanted is None:
        return profile.quants
    for quant in profile.quants:
        if wanted.upper() in {name.upper() for name in quant.names}:
            return (quant,)
    known = ", ".join(quant.name for quant in profile.quants)
    raise NotFound(
        f"profile {profile.name} has no quant {wanted!r}, only {known}",
        hint=f"launcher plan {profile.name}:{_nearest(profile.quants, wanted)}, "
        f"or a hub repo as {profile.quants[0].repo}:QUANT",
    )


def _nearest(quants: tuple[ProfileQuant, ...], wanted: str) -> str:
    names = {name.upper(): quant.name for quant in quants for name in quant.names}
    return names[get_close_matches(wanted.upper(), names, n=1, cutoff=0.0)[0]]
