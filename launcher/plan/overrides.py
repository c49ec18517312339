"""Rules of `-ot`, which send tensors with a matching name to a place. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from launcher.errors import UsageError
from launcher.plan.amounts import HOST
from launcher.plan.modes import TensorOverride
from launcher.system.foreign_patterns import compile_foreign


def parse_rules(text: str) -> tuple[TensorOverride, ...]:
    """Parse a value of -ot or -otd: `pattern=buffer type`, comma separated.

    Raises ValueError for a rule without a place.
    """
    rules = []
    for rule in filter(None, text.split(",")):
        pattern, equals, where = rule.partition("=")
        if not equals:
            raise ValueError(rule)
        rules.append(TensorOverride(pattern=pattern, where=HOST if where == "CPU" else where))
    return tuple(rules)


def compiled_pattern(pattern: str) -> re.Pattern[str]:
    """Compile the pattern of a rule. Raises UsageError if it is no regular expression."""
    # llama.cpp compiles it as ECMAScript; Python agrees on the patterns that people write.
    try:
        return compile_foreign(pattern)
    except re.error as error:
        raise UsageError(
            f"-ot {pattern!r} is not a regular expression: {error}",
            hint=r"name tensors as in -ot 'blk\.[0-3]\.ffn_.*_exps=CPU'",
        ) from error


def first_match(overrides: Iterable[TensorOverride]) -> Callable[[str], str | None]:
    """Return a function from a tensor's name to the place it is sent to.

    Raises UsageError for a pattern that is no regular expression.
    """
    # create_tensor, src/llama-model-loader.cpp at 0c1e570: of several rules the first that matches decides.
    # A tensor goes to a device whatever the device's kernels, and to the host whatever its layer.
    rules = [(compiled_pattern(rule.pattern), rule.where) for rule in overrides]
    return lambda name: next((where for pattern, where in rules if pattern.search(name)), None)


def matches_any(override: TensorOverride, names: Iterable[str]) -> bool:
    """Return whether the rule matches one of the names. Raises UsageError as `first_match`."""
    compiled = compiled_pattern(override.pattern)
    return any(compiled.search(name) for name in names)


def check_places(overrides: Iterable[TensorOverride], devices: Sequence[str]) -> None:
    """Raise UsageError for a rule that sends tensors to another device than these."""
    for rule in overrides:
        if rule.where not in {HOST, *devices}:
            raise UsageError(
                f"-ot {rule.pattern}={rule.where}: no such device is used, "
                f"only {', '.join(devices) or 'no device'}",
                hint="launcher probe",
            )


def check_overrides(
    overrides: Iterable[TensorOverride], devices: Sequence[str], names: Sequence[str], model: str
) -> None:
    """Raise UsageError for a rule whose device or tensors are not there, or whose pattern is none."""
    rules = tuple(overrides)
    check_places(rules, devices)
    for rule in rules:
        if not matches_any(rule, names):
            raise UsageError(
                f"-ot {rule.pattern} finds no tensor of {model}, "
                f"whose names are like {names[len(names) // 2]}",
                hint="patterns are searched for in the names of tensors, as llama.cpp does",
            )


def format_override(rule: TensorOverride) -> str:
    return f"{rule.pattern}={'CPU' if rule.where == HOST else rule.where}"
