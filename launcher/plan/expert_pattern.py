"""One regular expression for the routed experts of chosen blocks. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from launcher.plan.amounts import HOST
from launcher.plan.modes import TensorOverride
from launcher.plan.plan import Placement

# Routed experts, not the shared ones (`_shexp`) nor the router (common/common.h, LLM_FFN_EXPS_REGEX).
EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"


def expert_pattern(blocks: Sequence[int], parts: Sequence[tuple[int, Sequence[str]]] = ()) -> str:
    """Return the pattern for all routed experts of `blocks`, and some kinds of those in `parts`."""
    # llama.cpp compiles every override once per tensor (std::regex, ECMAScript, searched; 5 µs each), so
    # all blocks share one pattern. It has no comma, which would split the argument.
    if not parts:
        return block_pattern(blocks, EXPERTS)
    numbers = "|".join(_numbers(sorted(set(blocks))))
    whole = [rf"({numbers})\.ffn_(up|down|gate|gate_up)"] if blocks else []
    some = [rf"{block}\.ffn_({'|'.join(kinds)})" for block, kinds in parts]
    return rf"blk\.({'|'.join(whole + some)})_(ch|)exps"


def block_pattern(blocks: Sequence[int], regex: str) -> str:
    """Return the pattern for what `regex` matches in these blocks alone; at least one block."""
    return rf"blk\.({'|'.join(_numbers(sorted(set(blocks))))}){regex}"


def placement_pattern(placement: Placement) -> str | None:
    if not (placement.host_expert_blocks or placement.host_expert_parts):
        return None
    return expert_pattern(placement.host_expert_blocks, placement.host_expert_parts)


def placement_overrides(placement: Placement) -> tuple[TensorOverride, ...]:
    """Return the rules for `-ot`: the user's, then the plan's own. Empty without a device."""
    # The user's come first because the first match decides.
    if not placement.devices:
        return ()
    pattern = placement_pattern(placement)
    own = () if pattern is None else (TensorOverride(pattern=pattern, where=HOST),)
    return (*placement.overrides, *own)


def matched_names(pattern: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the names in which llama.cpp would find the pattern: anywhere, not from the start."""
    compiled = re.compile(pattern)
    return tuple(name for name in names if compiled.search(name))


def _numbers(blocks: Sequence[int]) -> list[str]:
    # Numbers with the same leading digits share one, with a class of last digits (`1[4-9]`); leading digits
    # with the same class are joined (`[2-5][0-9]`).
    last_digits: dict[str, list[int]] = {}
    for block in blocks:
        last_digits.setdefault(str(block)[:-1], []).append(int(str(block)[-1]))
    heads_of: dict[str, list[str]] = {}
    for head, digits in last_digits.items():
        heads_of.setdefault(_digit_class(digits), []).append(head)
    parts = []
    for tail, heads in heads_of.items():
        parts += [head + tail for head in _heads(heads)]
    return parts


def _heads(heads: Sequence[str]) -> list[str]:
    """Join leading digits that differ in the last digit alone."""
    plain = [head for head in heads if not head]
    tails: dict[str, list[int]] = {}
    for head in heads:
        if head:
            tails.setdefault(head[:-1], []).append(int(head[-1]))
    return plain + [start + _digit_class(sorted(digits)) for start, digits in tails.items()]


def _digit_class(digits: Sequence[int]) -> str:
    """Write digits as a class: `[4]` as `4`, `[4, 5, 6]` as `[4-6]`, `[0, 2, 4]` as `[024]`."""
    if len(digits) == 1:
        return str(digits[0])
    runs: list[list[int]] = []
    for digit in digits:
        if runs and digit == runs[-1][-1] + 1:
            runs[-1].append(digit)
        else:
            runs.append([digit])
    spelled = (
        f"{run[0]}-{run[-1]}" if len(run) > 2 else "".join(str(digit) for digit in run) for run in runs
    )
    return f"[{''.join(spelled)}]"
