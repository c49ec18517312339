"""Turn a preset's keys into llama-server's options, and options into the words of a child's line. Pure.

Follows get_map_key_opt, parse_bool_arg and common_preset::to_args (common/preset.cpp at 0c1e570).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from launcher.engine.flags.help_text import Option
from launcher.engine.flags.memory_names import FIRST_SPELLING, MEMORY_VARIABLES, OPPOSITE
from launcher.engine.flags.pinned_flags import PINNED_ARITIES, REMOVED_FLAGS
from launcher.engine.flags.user_flags import SPELLINGS

TRUE = frozenset({"on", "enabled", "true", "1"})  # common_arg_utils::is_truthy
FALSE = frozenset({"off", "disabled", "false", "0"})

LOAD_ON_STARTUP = "load-on-startup"
# Keys that are no flags (common_params_add_preset_options, common/arg.cpp).
PRESET_KEYS = frozenset({LOAD_ON_STARTUP, "stop-timeout", "dedup-cache-models"})

TWO_VALUES = "START END"
"""The hint, in `--help`, of the options that take two values."""

# A router takes them, and the child that is given them ends.
_REMOVED = tuple(
    Option(spellings=(flag,), hint="N", values=(), default=None, env=None, help="")
    for flag, (n, _) in REMOVED_FLAGS.items()
    if n  # those of the load mode are not known any more
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetOption:
    """One option of llama-server: `name` is its first spelling; a switch takes no value."""

    name: str
    spelling: str  # the one that a child is given
    opposite: str | None  # the one that switches it off
    negatives: frozenset[str]
    n_values: int


Options = Mapping[str, PresetOption]
"""Options by key: each spelling without its dashes, and each variable."""


def options_by_key(options: Iterable[Option]) -> Options:
    """Return what the keys of a preset mean to a llama-server with these options."""
    found: dict[str, PresetOption] = {}
    for option in (*_REMOVED, *options):
        known = _preset_option(option)
        keys = [spelling.lstrip("-") for spelling in option.spellings]
        if option.env is not None:
            keys.append(option.env)
            if known.negatives:
                keys.append(option.env.replace("LLAMA_ARG_", "LLAMA_ARG_NO_"))
        found |= dict.fromkeys(keys, known)
    return found | {
        key: PresetOption(name=key, spelling=key, opposite=None, negatives=frozenset(), n_values=1)
        for key in PRESET_KEYS
    }


def value_of_key(option: PresetOption, key: str, value: str) -> str:
    """Return the option's value for what a preset says; a key that switches it off means the contrary."""
    if not any(spelling.lstrip("-") == key for spelling in option.negatives):
        return value
    return "false" if value in TRUE else "true"


def words_of(option: PresetOption, value: str) -> tuple[str, ...]:
    """Return the words that a child is given; none for what only the router reads."""
    if option.name in PRESET_KEYS:
        return ()
    if option.n_values:
        return (option.spelling, value)
    if value not in FALSE:
        return (option.spelling,)
    return (option.opposite,) if option.opposite is not None else ()


def pinned_options() -> tuple[Option, ...]:
    """Return the pinned llama-server's options as far as they decide memory, to read without an engine."""
    variables = {flag: variable for variable, flag in MEMORY_VARIABLES.items()}
    variables |= {"-mm": "LLAMA_ARG_MMPROJ", "-md": "LLAMA_ARG_SPEC_DRAFT_MODEL"}
    first = {spelling: spellings[0] for spellings in SPELLINGS for spelling in spellings} | FIRST_SPELLING
    groups: dict[str, list[str]] = {}
    # what switches an option off comes last, as in `--help`
    for flag in sorted(PINNED_ARITIES, key=lambda flag: (_switched_on(flag, first) is not None, len(flag))):
        groups.setdefault(_switched_on(flag, first) or first.get(flag, flag), []).append(flag)
    return tuple(
        Option(
            spellings=tuple(flags),
            hint={0: None, 1: "N", 2: TWO_VALUES}[PINNED_ARITIES[flags[0]]],
            values=(),
            default=None,
            env=variables.get(name),
            help="",
        )
        for name, flags in groups.items()
    )


_POSITIVE = {no: yes for yes, no in OPPOSITE.items()}


def _switched_on(flag: str, first: Mapping[str, str]) -> str | None:
    """Return the name of the switch that a pinned flag switches off; None for any other flag."""
    name = first.get(flag, flag)
    plain = flag.replace("--no-", "--", 1)
    if plain != flag and PINNED_ARITIES.get(plain) == 0:
        return first.get(plain, plain)
    return _POSITIVE.get(name)


def _preset_option(option: Option) -> PresetOption:
    at = _first_negative(option)
    positive, negative = option.spellings[:at], option.spellings[at:]
    return PresetOption(
        name=positive[0],
        spelling=positive[-1],
        opposite=negative[-1] if negative else None,
        negatives=frozenset(negative),
        n_values=0 if option.hint is None else 2 if option.hint == TWO_VALUES else 1,
    )


def _first_negative(option: Option) -> int:
    """Return where the spellings begin that switch an option off: `--help` lists them last."""
    off = [spelling.startswith("--no-") for spelling in option.spellings]
    long_on = any(
        spelling.startswith("--") and not no for spelling, no in zip(option.spellings, off, strict=True)
    )
    if option.hint is not None or not any(off) or not long_on:
        return len(off)
    return next(
        at for at, spelling in enumerate(option.spellings) if at and spelling.startswith(("-n", "--no-"))
    )
