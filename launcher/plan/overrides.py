"""`-ot`: what its patterns find, and where they send it.

Of several rules the first that finds a tensor's name decides (create_tensor, src/llama-model-loader.cpp at 0c1e570): on a
device whatever its kernels, on the host whatever its layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from launcher.errors import UsageError
from launcher.plan.amounts import HOST
from launcher.plan.modes import TensorOverride


def parse_rules(text: str) -> tuple[TensorOverride, ...]:
    """llama-server's value of -ot and -otd: `pattern=buffer type`, comma separated. Raises ValueError for a rule without
    a place."""
    rules = []
    for rule in filter(None, text.split(",")):
        pattern, equals, where = rule.partition("=")
        if not equals:
            raise ValueError(rule)
        rules.append(TensorOverride(pattern=pattern, where=HOST if where == "CPU" else where))
    return tuple(rules)


def compiled_pattern(pattern: str) -> re.Pattern[str]:
    """What stands before `=` in -ot; ECMAScript and Python agree on what people write there."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"-ot {pattern!r} is not a regular expression: {error}",
            hint=r"name tensors as in -ot 'blk\.[0-3]\.ffn_.*_exps=CPU'",
        ) from error


def first_match(overrides: Iterable[TensorOverride]) -> Callable[[str], str | None]:
    """Where a tensor of a name is sent, None where no rule finds it. Raises UsageError for a pattern that is none."""
    rules = [(compiled_pattern(rule.pattern), rule.where) for rule in overrides]
    return lambda name: next((where for pattern, where in rules if pattern.search(name)), None)


def matches_any(override: TensorOverride, names: Iterable[str]) -> bool:
    """Whether it matches any tensor. Raises UsageError for a pattern that is none."""
    compiled = compiled_pattern(override.pattern)
    return any(compiled.search(name) for name in names)


def check_places(overrides: Iterable[TensorOverride], devices: Sequence[str]) -> None:
    """Raises UsageError for an override to a device that is not among these."""
    for rule in overrides:
        if rule.where not in {HOST, *devices}:
            raise UsageError(
                f"-ot {rule.pattern}={rule.where}: no such device is used, only {', '.join(devices) or 'no device'}",
                hint="launcher probe shows the devices; CPU is the host",
            )


def check_overrides(
    overrides: Iterable[TensorOverride], devices: Sequence[str], names: Sequence[str], model: str
) -> None:
    """Raises UsageError for a rule that cannot be kept: no such device, no such tensor, no pattern."""
    rules = tuple(overrides)
    check_places(rules, devices)
    for rule in rules:
        if not matches_any(rule, names):
            raise UsageError(
                f"-ot {rule.pattern} finds no tensor of {model}, whose names are like {names[len(names) // 2]}",
                hint="patterns are searched for in the names of tensors, as llama.cpp does",
            )


def format_override(rule: TensorOverride) -> str:
    """The rule in llama-server's words."""
    return f"{rule.pattern}={'CPU' if rule.where == HOST else rule.where}"
