"""Compile regular expressions that others wrote, if matching them ends soon. Pure."""

from __future__ import annotations

import re

_MOST_CHARACTERS = 1 << 14  # a placement's own pattern of 512 blocks has about 2000
_MOST_REPETITIONS = 6  # each more makes a failing match longer by the length of a tensor's name
_QUANTIFIER = re.compile(r"[*+]|\{[0-9]{0,9},?[0-9]{0,9}\}")


def compile_foreign(pattern: str) -> re.Pattern[str]:
    """Compile a pattern. Raises re.error for none, and for one whose matching could take for ever."""
    if len(pattern) > _MOST_CHARACTERS:
        raise re.error(f"it has {len(pattern)} characters, and {_MOST_CHARACTERS} are the most")
    marks, quantifiers = _outside_classes(pattern)
    if len(quantifiers) > _MOST_REPETITIONS:
        raise re.error(f"it has more than {_MOST_REPETITIONS} repetitions")
    if _repeats_a_choice(marks, quantifiers):
        raise re.error("it repeats a group that has a repetition or a choice inside")
    try:
        return re.compile(pattern)
    except (OverflowError, RecursionError) as error:
        raise re.error(str(error)) from error


def _outside_classes(pattern: str) -> tuple[list[tuple[int, str]], list[int]]:
    """Return `(`, `)` and `|` with their places, and the places of quantifiers: escapes and classes aside."""
    marks: list[tuple[int, str]] = []
    quantifiers: list[int] = []
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == "\\":
            at += 2
            continue
        if letter == "[":
            at = _end_of_class(pattern, at)
            continue
        if letter in "()|":
            marks.append((at, letter))
        elif match := _QUANTIFIER.match(pattern, at):
            quantifiers.append(at)
            at = match.end()
            continue
        at += 1
    return marks, quantifiers


def _end_of_class(pattern: str, start: int) -> int:
    at = start + 1
    if pattern[at : at + 1] == "^":
        at += 1
    if pattern[at : at + 1] == "]":  # first, it is a member
        at += 1
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at + 1


def _repeats_a_choice(marks: list[tuple[int, str]], quantifiers: list[int]) -> bool:
    # nested repetitions, or alternatives that are repeated, are what makes a backtracking match exponential
    open_groups: list[int] = []
    choices = [at for at, mark in marks if mark == "|"]
    for at, mark in marks:
        if mark == "(":
            open_groups.append(at)
        elif mark == ")" and open_groups:
            start = open_groups.pop()
            inside = any(start < each < at for each in (*quantifiers, *choices))
            if inside and at + 1 in quantifiers:
                return True
    return False
