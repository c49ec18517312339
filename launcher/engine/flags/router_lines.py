"""Read a llama-server line that serves many models, and write the line of each of its children. Pure.

A router (tools/server/server-models.cpp at 0c1e570) starts one llama-server a model: the `[*]` section, the
model's own section or folder, then the router's own flags, of which the last of equal ones counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from launcher.engine.flags.command_line import Command
from launcher.engine.flags.pinned_flags import REMOVED_FLAGS
from launcher.engine.flags.preset_ini import GLOBAL_SECTION, Section
from launcher.engine.flags.preset_options import (
    LOAD_ON_STARTUP,
    TRUE,
    Options,
    PresetOption,
    value_of_key,
    words_of,
)
from launcher.errors import UsageError

_MOST_LOADED = 4  # common_params.models_max
_VARIABLES = {
    "LLAMA_ARG_MODELS_PRESET": "models-preset",
    "LLAMA_ARG_MODELS_DIR": "models-dir",
    "LLAMA_ARG_MODELS_MAX": "models-max",
    "LLAMA_ARG_MODELS_AUTOLOAD": "models-autoload",
}
# unset_reserved_args: what no child is told, and what it is not told by the router's own flags
_RESERVED = ("ssl-key-file", "ssl-cert-file", "api-key", "api-key-file", *_VARIABLES.values())
_OF_A_MODEL = ("model", "mmproj", "alias", "hf-repo", "log-file")
_NAMES_A_MODEL = ("model", "hf-repo", "model-url", "docker-repo")

Values = dict[str, tuple[PresetOption, str]]
"""Options with their values, by first spelling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model of `--models-dir`: its name there, and its files."""

    name: str
    model: str
    projector: str | None = None
    draft: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """What a router's line says; `flags` are those that its children get."""

    presets: str | None  # the path of the file
    folder: str | None
    most_loaded: int  # --models-max; 0 and less: no limit
    autoload: bool
    flags: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A model of a router; `words` is its line, None where no key names the model."""

    name: str
    words: tuple[str, ...] | None
    at_startup: bool
    aliases: tuple[str, ...] = ()
    from_cache: bool = False  # it is served if llama-server's cache has the repo of its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    models: tuple[Child, ...]
    refused: tuple[str, ...]  # sentences on what ends the router before it serves
    notes: tuple[str, ...] = ()  # sentences on keys that count for nothing


def read_router(command: Command, options: Options) -> Router | None:
    """Return what a line says of a router; None for one that serves a single model.

    Raises UsageError for a number that is none.
    """
    flags = _flags_of(command.corrected, options)
    given = {name: value for variable, value in command.variables if (name := _VARIABLES.get(variable))}
    given |= {
        name: flags[option.name][1]
        for name in _VARIABLES.values()
        if (option := options.get(name)) and option.name in flags
    }
    presets, folder = given.get("models-preset"), given.get("models-dir")
    if command.model is not None or not (presets or folder):
        return None
    try:
        most = int(given.get("models-max", _MOST_LOADED))
    except ValueError:
        raise UsageError(
            f"--models-max {given['models-max'][:40]} is no number", hint="--models-max 2"
        ) from None
    return Router(
        presets=presets,
        folder=folder,
        most_loaded=most,
        autoload=given.get("models-autoload", "1") in TRUE,
        flags=_without(flags, (*_RESERVED, *_OF_A_MODEL), options),
    )


def lines_of_children(
    router: Router, sections: Sequence[Section], found: Iterable[ModelFiles], options: Options
) -> Children:
    """Return the children of a router, by name, and why it would not start."""
    refused: list[str] = []
    read = {section.name: _values_of(section, options, refused) for section in sections}
    common = read.pop(GLOBAL_SECTION, {})
    models = {files.name: common | _values_of_files(files, options) for files in found}
    for name, values in read.items():
        models[name] = models.get(name, {}) | common | values
    children = tuple(_child(name, models[name] | router.flags, options) for name in sorted(models))
    startup = [child.name for child in children if child.at_startup]
    if len(startup) > router.most_loaded:  # 0, too: no limit otherwise (server_models::load_models)
        refused.append(
            f"{len(startup)} to load on startup ({', '.join(startup)}) are more than --models-max "
            f"{router.most_loaded}: llama-server ends"
        )
    return Children(
        models=children,
        refused=(*dict.fromkeys(refused), *_same_names(children)),
        notes=tuple(_ignored(sections, options)),
    )


def _ignored(sections: Iterable[Section], options: Options) -> Iterator[str]:
    """Say which keys of the file people take for the router's: only its own flags count there."""
    routers = {option.name for key in _VARIABLES.values() if (option := options.get(key)) is not None}
    for section in sections:
        for key, value in section.entries:
            if (option := options.get(key)) is not None and option.name in routers:
                said = f"[{section.name}] {key} = {value} counts for nothing"
                yield f"{said}: only {option.name} after llama-server does"


def _flags_of(words: Sequence[str], options: Options) -> Values:
    values: Values = {}
    at = 0
    while at < len(words):
        flag = words[at].replace("_", "-") if words[at].startswith("--") else words[at]
        option = options.get(flag.lstrip("-"))
        n_values = option.n_values if option is not None else 0
        if option is not None:
            given = words[at + 1] if n_values else "0" if flag in option.negatives else "1"
            values[option.name] = option, given
        at += 1 + n_values
    return values


def _values_of(section: Section, options: Options, refused: list[str]) -> Values:
    values: Values = {}
    for key, value in section.entries:
        option = options.get(key)
        if option is None:
            refused.append(f"[{section.name}] has the key {key!r}, {_why_unknown(key)}: llama-server ends")
        elif option.n_values > 1:
            refused.append(
                f"[{section.name}] has {key}, whose two values no preset can say: llama-server ends"
            )
        else:
            values[option.name] = option, value_of_key(option, key, value)
    return values


def _why_unknown(key: str) -> str:
    for dashes in ("--", "-"):
        _, now = REMOVED_FLAGS.get(dashes + key, (0, ""))
        if now.startswith("--"):
            return f"which is gone ({' = '.join(now.removeprefix('--').split())} now)"
    return "which it does not know"


def _values_of_files(files: ModelFiles, options: Options) -> Values:
    named = (("model", files.model), ("mmproj", files.projector), ("spec-draft-model", files.draft))
    return {options[key].name: (options[key], path) for key, path in named if path is not None}


def _child(name: str, values: Values, options: Options) -> Child:
    values = _without(values, _RESERVED, options)
    aliases = _value(values, "alias", options).split(",")
    startup = values.get(LOAD_ON_STARTUP)
    has_model = any(_value(values, key, options) for key in _NAMES_A_MODEL)
    from_cache = not has_model and _looks_like_repo(name)
    if from_cache:
        values[options["hf-repo"].name] = options["hf-repo"], name
    values |= {
        options["alias"].name: (options["alias"], name),
        options["host"].name: (options["host"], "127.0.0.1"),
    }
    values.pop(options["port"].name, None)
    words = (word for key in sorted(values) for word in words_of(*values[key]))
    return Child(
        name=name,
        words=("llama-server", *words) if has_model or from_cache else None,
        at_startup=startup is not None and startup[1] in TRUE,
        aliases=tuple(alias.strip() for alias in aliases if alias.strip()),
        from_cache=from_cache,
    )


def _same_names(children: Sequence[Child]) -> list[str]:
    """Return why the router ends: names by which two models are asked for (server_models::add_model)."""
    owner: dict[str, str] = {child.name: child.name for child in children}
    refused = []
    for child in children:
        for alias in child.aliases:
            other = owner.setdefault(alias, child.name)
            if other != child.name:
                refused.append(f"{alias!r} names both {other} and {child.name}: llama-server ends")
    return refused


def _looks_like_repo(name: str) -> bool:
    owner, slash, repo = name.partition("/")
    return bool(owner and slash and repo) and "/" not in repo


def _value(values: Mapping[str, tuple[PresetOption, str]], key: str, options: Options) -> str:
    option = options.get(key)
    return values[option.name][1] if option is not None and option.name in values else ""


def _without(values: Values, keys: Iterable[str], options: Options) -> Values:
    names = {option.name for key in keys if (option := options.get(key)) is not None}
    return {name: value for name, value in values.items() if name not in names}
