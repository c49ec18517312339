"""Every regular expression of launcher takes time in proportion to its text, also for text made to cost more."""

from __future__ import annotations

import ast
import importlib
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from types import FrameType
from typing import Any, NoReturn

import pytest

import launcher

ROOT = Path(launcher.__file__).parent
FEW, MANY = 3_000, 80_000  # characters; a square of the many takes seconds
SUSPICIOUS_SECONDS = 0.001  # for the few: only then the many are tried
MOST_SECONDS = 0.5  # for the many, of this process's computing
METHODS = {"search", "match", "fullmatch", "sub", "split", "findall", "finditer"}


@dataclass(frozen=True)
class Used:
    """A pattern, by which methods it is used, and where."""

    pattern: re.Pattern[str]
    methods: frozenset[str]
    where: str


def constant_text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def flags_of(call: ast.Call) -> int:
    names = [
        part.attr
        for argument in (*call.args[1:], *(keyword.value for keyword in call.keywords))
        for part in ast.walk(argument)
        if isinstance(part, ast.Attribute)
    ]
    return sum(int(getattr(re, name, 0)) for name in names if isinstance(getattr(re, name, 0), re.RegexFlag))


def inline_patterns(tree: ast.AST, where: str) -> Iterator[Used]:
    """`re.search(r"…", text)` and its like."""
    for call in ast.walk(tree):
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and isinstance(call.func.value, ast.Name)
            and call.func.value.id == "re"
            and call.func.attr in METHODS
            and call.args
            and (text := constant_text(call.args[0])) is not None
        ):
            yield Used(
                re.compile(text, flags_of(call)), frozenset({call.func.attr}), f"{where}:{call.lineno}"
            )


def compiled_in(value: Any) -> Iterator[re.Pattern[str]]:
    if isinstance(value, re.Pattern):
        if isinstance(value.pattern, str):
            yield value
    elif isinstance(value, tuple | list | frozenset):
        for item in value:
            yield from compiled_in(item)
    elif isinstance(value, dict):
        yield from compiled_in(tuple(value.values()))


def methods_on(name: str, tree: ast.AST) -> frozenset[str]:
    """How a module uses its constant; where it takes it out of a tuple, as it uses those."""
    by_name: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in METHODS:
            by_name.setdefault(node.value.id, set()).add(node.attr)
    variables = [methods for each, methods in by_name.items() if each.islower() and each != "re"]
    return frozenset(by_name.get(name) or set().union(*variables) or {"search"})


def all_patterns() -> list[Used]:
    found: list[Used] = []
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        where = str(path.relative_to(ROOT.parent))
        found += inline_patterns(tree, where)
        if "re.compile" in path.read_text(encoding="utf-8"):
            module = importlib.import_module(where.removesuffix(".py").replace("/", "."))
            for name, value in vars(module).items():
                found += [
                    Used(pattern, methods_on(name, tree), f"{where} {name}") for pattern in compiled_in(value)
                ]
    return found


def sample(items: Any) -> str:
    """A short text that these parts match, roughly: groups and looks around are taken as they come."""
    text = ""
    for code, argument in items:
        if code is codes.LITERAL:
            text += chr(argument)
        elif code is codes.NOT_LITERAL:
            text += "a" if argument != ord("a") else "b"
        elif code is codes.ANY:
            text += "a"
        elif code is codes.IN:
            text += member(argument)
        elif code in {codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT}:
            low, _, body = argument
            text += sample(body) * low
        elif code is codes.SUBPATTERN:
            text += sample(argument[-1])
        elif code is codes.BRANCH:
            text += sample(argument[1][0])
    return text


def member(choices: Any) -> str:
    negated = any(code is codes.NEGATE for code, _ in choices)
    inner = re.compile(f"[{'^' if negated else ''}{spelled(choices)}]")
    return next(
        letter for letter in "a1 .-_:/=(A,'\"\n\t" + "".join(map(chr, range(32, 256))) if inner.match(letter)
    )


def spelled(choices: Any) -> str:
    text = ""
    for code, argument in choices:
        if code is codes.LITERAL:
            text += re.escape(chr(argument))
        elif code is codes.RANGE:
            text += f"{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}"
        elif code is codes.CATEGORY:
            text += {
                codes.CATEGORY_DIGIT: r"\d",
                codes.CATEGORY_NOT_DIGIT: r"\D",
                codes.CATEGORY_SPACE: r"\s",
                codes.CATEGORY_NOT_SPACE: r"\S",
                codes.CATEGORY_WORD: r"\w",
                codes.CATEGORY_NOT_WORD: r"\W",
            }[argument]
    return text


def pumps(items: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """(what comes before, what is repeated) for every repetition in a pattern, however deep."""
    for code, argument in items:
        if code in {codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT}:
            _, high, body = argument
            if high > 1 and (one := sample(body) or "a"):
                yield before, one
            yield from pumps(body, before)
        elif code is codes.SUBPATTERN:
            yield from pumps(argument[-1], before)
        elif code is codes.BRANCH:
            for branch in argument[1]:
                yield from pumps(branch, before)
        elif code in {codes.ASSERT, codes.ASSERT_NOT}:
            yield from pumps(argument[1], before)
        before += sample([(code, argument)])


def attacks(pattern: re.Pattern[str]) -> Iterator[str]:
    """What is repeated to make a text, with what stands before and after it, as `before|repeated|after`."""
    tree = parser.parse(pattern.pattern, pattern.flags)
    yield from dict.fromkeys(
        "|".join(part.replace("|", "!") for part in attack)
        for before, one in pumps(tree)
        for attack in ((before, one, "\0"), ("", before + one, "\0"), ("", one, f"{before}\n"))
    )
    for unit in (
        "a",
        "1",
        " ",
        ".",
        "-",
        "_",
        ":",
        "/",
        "x",
        "\n",
        "a ",
        "1 ",
        ": ",
        "a.",
        "a-",
        "a/",
        "a=",
        "(",
        "a\n",
    ):
        yield f"|{unit}|\0"


def text_of(attack: str, n: int) -> str:
    before, unit, after = attack.split("|")
    return before + unit * (n // len(unit)) + after


class TooSlow(Exception):
    pass


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TooSlow


def run(used: Used, text: str) -> None:
    for method in used.methods:
        if method == "sub":
            used.pattern.sub("", text)
        elif method == "finditer":
            for _ in used.pattern.finditer(text):
                pass
        else:
            getattr(used.pattern, method)(text)


def is_slow(used: Used, attack: str) -> bool:
    try:
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        began = time.process_time()
        run(used, text_of(attack, FEW))
        if time.process_time() - began > SUSPICIOUS_SECONDS:
            signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
            run(used, text_of(attack, MANY))
    except TooSlow:
        return True
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return False


# over what is refused before if it is longer (refs._LONGEST_TEXT: 2048 characters)
SHORT_TEXTS = {"launcher/models/refs.py _HUB_TEXT"}
PATTERNS = [used for used in all_patterns() if used.where not in SHORT_TEXTS]


@pytest.fixture
def alarm() -> Iterator[None]:
    before = signal.signal(signal.SIGPROF, _stop)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("used", PATTERNS, ids=lambda used: f"{used.where} {used.pattern.pattern[:30]!r}")
def test_a_pattern_takes_time_in_proportion_to_its_text(used: Used) -> None:
    slow = next((attack for attack in attacks(used.pattern) if is_slow(used, attack)), None)
    assert slow is None, f"{used.where}: {used.pattern.pattern!r} is slow for {slow!r}"


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize(
    "pattern",
    [
        r"(\S+) RS buffer size",
        r"(a+)+$",
        r"\w+\s*=\s*\w+;",
        r"\b(\S+) +(?:model|KV) buffer size",
    ],
)
def test_what_is_slow_is_found(pattern: str) -> None:
    used = Used(re.compile(pattern), frozenset({"search"}), "here")
    assert any(is_slow(used, attack) for attack in attacks(used.pattern))


def test_every_pattern_is_looked_at() -> None:
    assert len(PATTERNS) > 80
