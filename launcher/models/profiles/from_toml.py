"""Parse a model profile from its TOML, strictly. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from launcher.errors import UsageError
from launcher.models.profiles.profile import (
    ApiEquivalent,
    BrokenProfile,
    CompanionFile,
    ContextRange,
    Mode,
    ModelProfile,
    ProfileQuant,
    Profiles,
    PublishedArchitecture,
    PublishedShape,
    Purpose,
    RecipeBasis,
    Sampling,
    Score,
    SizeBasis,
    VllmEntry,
    WheelSource,
)
from launcher.models.profiles.recipe_toml import read_published_architecture, read_recipe, read_shape
from launcher.system.toml_table import TomlTable, parse_toml

# 2 added an architecture and a recipe per quant, 3 added `flags`, 4 `[shape]`, `mix`, purposes, scores and
# companions, 5 `engine`, 6 `[vllm]`. Whatever comes next raises it, so that an older launcher refuses such a
# file by name instead of ignoring half of it.
_NEWEST_SCHEMA = 6

_NAME = r"[a-z0-9][a-z0-9._-]*"
_QUANT = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_MODE = r"[a-z][a-z0-9_-]*"
_REPO = r"[\w.-]+/[\w.-]+"
_URL = r"https?://[^\s]+"
_ENGINE = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_COMMIT = r"[0-9a-f]{40}"
_SHA256 = r"[0-9a-f]{64}"
_MAX_BYTES = 1 << 50
_MAX_CONTEXT = 1 << 27
_MAX_SHARDS = 99_999  # the split suffix has five digits (llama.cpp, llama_split_path: `-%05d-of-%05d.gguf`)


def find_profiles(texts: Mapping[str, str | UsageError]) -> Profiles:
    """Parse all profiles, given their texts (or why there is none) by file name."""
    usable: dict[str, ModelProfile] = {}
    broken: dict[str, BrokenProfile] = {}
    for file, text in texts.items():
        # Of two files with one name the later wins, even if broken: the user's own profile is never replaced
        # in silence.
        name = profile_name(file)
        usable.pop(name, None)
        broken.pop(name, None)
        try:
            if isinstance(text, UsageError):
                raise text
            usable[name] = parse_model_profile(text, name, file=file)
        except UsageError as error:
            broken[name] = BrokenProfile(name=name, file=file, error=error)
    return Profiles(
        usable=tuple(usable[name] for name in sorted(usable)),
        broken=tuple(broken[name] for name in sorted(broken)),
    )


def profile_name(file: str) -> str:
    """Return `"kimi-k2.5"` for `"profiles/models/kimi-k2.5.toml"`."""
    return file.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".toml")


def parse_model_profile(text: str, name: str, *, file: str | None = None) -> ModelProfile:
    """Parse a profile. Raises UsageError that names the file, the key, the value and the limit."""
    file = file or f"{name}.toml"
    if re.fullmatch(_NAME, name) is None:
        raise UsageError(
            f"{file}: the name {name!r} is not small letters, digits, '.', '_' and '-'", hint=f"rename {file}"
        )
    top = parse_toml(text, file=file)
    schema = top.integer("schema", 1, 1 << 31)
    if schema > _NEWEST_SCHEMA:
        top.fail(
            "schema",
            f"is {schema}, and this launcher reads up to {_NEWEST_SCHEMA}",
            hint="take it away, or update launcher: launcher --version",
        )
    profile = ModelProfile(
        name=name,
        title=top.text("title"),
        description=top.text("description"),
        license=top.text("license"),
        homepage=top.text("homepage", pattern=_URL, like="https://…"),
        context=_context(top.table("context")),
        quants=tuple(_quant(table) for table in top.tables("quants")),
        default_quant=top.optional_text("default_quant"),
        modes=tuple(_mode(table) for table in top.tables("modes")),
        api=_api(api) if (api := top.optional_table("api")) else None,
        architecture=_architecture(top, schema),
        flags=top.texts("flags") if schema > 2 else (),
        purposes=_purposes(top) if schema > 3 else (Purpose.CHAT,),
        scores=_scores(top) if schema > 3 else (),
        projector=_companion(top.optional_table("projector")) if schema > 3 else None,
        draft=_companion(top.optional_table("draft")) if schema > 3 else None,
        engine=top.optional_text("engine", pattern=_ENGINE, like="ik_llama.cpp") if schema > 4 else None,
        vllm=_vllm(top.optional_table("vllm")) if schema > 5 else None,
    )
    top.finish()
    if profile.architecture is None and any(quant.recipe for quant in profile.quants):
        top.fail("architecture", "is missing: a quant's recipe is for its tensors")
    _check_names(top, profile)
    return profile


def _architecture(top: TomlTable, schema: int) -> PublishedArchitecture | PublishedShape | None:
    architecture = top.optional_table("architecture") if schema > 1 else None
    shape = top.optional_table("shape") if schema > 3 else None
    if architecture is not None and shape is not None:
        top.fail("shape", "and architecture stand for the same thing", hint="keep one of them")
    if shape is not None:
        return read_shape(shape)
    return read_published_architecture(architecture) if architecture is not None else None


def _purposes(top: TomlTable) -> tuple[Purpose, ...]:
    words = top.texts("purposes") or (Purpose.CHAT.value,)
    known = [purpose.value for purpose in Purpose]
    unknown = [word for word in words if word not in known]
    if unknown:
        top.fail("purposes", f"has {unknown[0]!r}, which is none of {', '.join(known)}")
    return tuple(Purpose(word) for word in words)


def _scores(top: TomlTable) -> tuple[Score, ...]:
    return tuple(_score(table) for table in top.tables("scores")) if top.has("scores") else ()


def _score(table: TomlTable) -> Score:
    purposes = "|".join(purpose.value for purpose in Purpose)
    score = Score(
        benchmark=table.text("benchmark"),
        purpose=Purpose(table.text("purpose", pattern=purposes, like="coding")),
        value=table.number("value", 0, 100),
        source=table.text("source"),
    )
    table.finish()
    return score


def _companion(table: TomlTable | None) -> CompanionFile | None:
    if table is None:
        return None
    companion = CompanionFile(
        repo=table.text("repo", pattern=_REPO, like="user/repo"),
        file=table.text("file"),
        size_bytes=table.optional_integer("size_bytes", 1, _MAX_BYTES),
        source=table.text("source"),
    )
    table.finish()
    return companion


def _vllm(table: TomlTable | None) -> VllmEntry | None:
    if table is None:
        return None
    entry = VllmEntry(
        repo=table.text("repo", pattern=_REPO, like="user/repo"),
        quality=table.text("quality"),
        weight_bytes=table.integer("weight_bytes", 1, _MAX_BYTES),
        tower_bytes=table.optional_integer("tower_bytes", 0, _MAX_BYTES),
        source=table.text("source"),
        flags=table.texts("flags"),
        config=table.scalars("config"),
    )
    table.finish()
    return entry


def _check_names(top: TomlTable, profile: ModelProfile) -> None:
    owners: dict[str, str] = {}  # no name may select two things
    for quant in profile.quants:
        for name in {name.upper() for name in quant.names}:
            if name in owners:
                top.fail("quants", f"uses the name {name!r} for both {owners[name]} and {quant.name}")
            owners[name] = quant.name
    if profile.default_quant is not None and profile.default_quant.upper() not in owners:
        top.fail("default_quant", f"is {profile.default_quant!r}, which is none of its quants")
    modes = [mode.name for mode in profile.modes]
    if len(set(modes)) != len(modes):
        top.fail("modes", f"has one name twice: {', '.join(modes)}")


def _context(table: TomlTable) -> ContextRange:
    most = table.integer("max", 256, _MAX_CONTEXT)
    context = ContextRange(max=most, default=table.integer("default", 256, most), source=table.text("source"))
    table.finish()
    return context


def _quant(table: TomlTable) -> ProfileQuant:
    wheel = table.optional_table("wheel")
    recipe = table.optional_table("recipe")
    size_bytes = table.optional_integer("size_bytes", 1, _MAX_BYTES)
    sha256 = table.optional_text("sha256", pattern=_SHA256, like="64 hexadecimal digits")
    quant = ProfileQuant(
        name=table.text("name", pattern=_QUANT, like="Q4_K_M"),
        aliases=table.texts("aliases"),
        repo=table.text("repo", pattern=_REPO, like="user/repo"),
        label=table.text("label", pattern=_QUANT, like="UD-Q4_K_XL"),
        file=table.optional_text("file"),
        revision=table.optional_text(
            "revision", pattern=_COMMIT, like="a full commit, 40 hexadecimal digits"
        ),
        n_shards=table.optional_integer("n_shards", 1, _MAX_SHARDS),
        size_bytes=size_bytes,
        size_basis=_size_basis(table) if size_bytes is not None else None,
        size_source=table.text("size_source") if size_bytes is not None else None,
        sha256=sha256,
        quality=table.text("quality"),
        quality_source=table.text("quality_source"),
        wheel=_wheel(wheel, size_bytes, sha256, table) if wheel else None,
        recipe=read_recipe(recipe) if recipe else None,
    )
    if quant.recipe and quant.recipe.basis is RecipeBasis.ASSUMED and quant.size_bytes is None:
        table.fail("recipe", "is assumed, and there is no size_bytes that it could meet")
    table.finish()
    if quant.revision is None and (quant.size_basis is SizeBasis.EXACT or quant.sha256):
        table.fail("revision", "is missing: an exact size and a sha256 hold for one commit")
    if quant.sha256 and quant.n_shards != 1:
        table.fail("sha256", f"is one file's, and n_shards is {quant.n_shards}, not 1")
    return quant


def _size_basis(table: TomlTable) -> SizeBasis:
    return SizeBasis(table.text("size_basis", pattern="exact|published", like="exact or published"))


def _wheel(wheel: TomlTable, size_bytes: int | None, sha256: str | None, quant: TomlTable) -> WheelSource:
    if size_bytes is None or sha256 is None:
        quant.fail("wheel", "needs the quant's own size_bytes and sha256 beside it")
    # Size and digest are those of the quant's file, written once.
    source = WheelSource(
        package=wheel.text("package"),
        version=wheel.text("version"),
        wheel_sha256=wheel.text("wheel_sha256", pattern=_SHA256, like="64 hexadecimal digits"),
        member=wheel.text("member"),
        size_bytes=size_bytes,
        sha256=sha256,
    )
    wheel.finish()
    return source


def _mode(table: TomlTable) -> Mode:
    sampling = table.optional_table("sampling")
    mode = Mode(
        name=table.text("name", pattern=_MODE, like="thinking"),
        sampling=_sampling(sampling) if sampling else Sampling(),
        reasoning=table.optional_flag("reasoning"),
        chat_template_kwargs=table.scalars("chat_template_kwargs"),
        source=table.text("source"),
    )
    table.finish()
    return mode


def _sampling(table: TomlTable) -> Sampling:
    # Limits: the ranges of OpenAI's API where it has the value, else where the sampler has a meaning.
    sampling = Sampling(
        temperature=table.optional_number("temperature", 0, 2),
        top_k=table.optional_integer("top_k", 0, 100_000),
        top_p=table.optional_number("top_p", 0, 1),
        min_p=table.optional_number("min_p", 0, 1),
        repeat_penalty=table.optional_number("repeat_penalty", 0, 2),
        presence_penalty=table.optional_number("presence_penalty", -2, 2),
    )
    table.finish()
    return sampling


def _api(table: TomlTable) -> ApiEquivalent:
    api = ApiEquivalent(
        provider=table.text("provider"),
        base_url=table.text("base_url", pattern=_URL, like="https://…"),
        model_id=table.text("model_id"),
        input_usd_per_mtok=table.number("input_usd_per_mtok", 0, 1000),
        cached_input_usd_per_mtok=table.optional_number("cached_input_usd_per_mtok", 0, 1000),
        output_usd_per_mtok=table.number("output_usd_per_mtok", 0, 1000),
        source=table.text("source"),
        as_of=table.calendar_date("as_of"),
    )
    table.finish()
    return api
