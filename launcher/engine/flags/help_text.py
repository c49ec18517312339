"""Parse the output of llama-server's `--help` and `--version`. Pure.

Flags come and go between builds, and an unknown one ends llama-server with status 1; a plan is therefore
written for the flags of one binary. common_arg::to_string (common/arg.cpp) makes the layout of `--help`:
spellings, value hint, at least three blanks or a new line, help from column 40. ik_llama.cpp's are indented,
with help from column 34 (gpt_params_print_usage, common/common.cpp).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from launcher.plan.modes import Dialect

_SPELLING = re.compile(r"-{1,2}[A-Za-z0-9][\w.-]*")
_SEPARATOR = re.compile(r",\s+")
_HINT = re.compile(r" (\S+(?: \S+)*)")
_ENV = re.compile(r"\(env: (\w+)\)")
_DEFAULT = re.compile(
    r"\bdefault: (?:'(?P<quoted>[\w.+-]+)'|(?P<plain>-?\w[\w.+-]*)(?=[,)]))|defaults to (?P<prose>[\w.+-]+)"
)
_LISTED = re.compile(r"allowed values: ((?:[\w.+-]+, )*[\w.+-]+)")
_BULLET = re.compile(r"- ([\w.+-]+)(?: \(default\))?:")
_HINTED = re.compile(r"[\[<](\w+(?:\|\w+)+)[\]>]|\{(\w+(?:,\w+)+)\}")
_INDENTED = re.compile(r"^ {2,9}(?=-)")
_REMOVED = "the argument has been removed"

_VERSION = re.compile(r"version: (?P<text>\S+)(?: \((?:build (?P<build>\d+), commit )?(?P<commit>\w+)\))?")
_COMPILER = re.compile(r"built with (.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One entry of `--help`."""

    spellings: tuple[str, ...]
    hint: str | None  # stands for the value (`N`, `[on|off|auto]`); None for a switch
    values: tuple[str, ...]  # the words it takes; empty if the help does not list them
    default: str | None
    env: str | None
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """The version of a llama-server."""

    # `version: 0.5.0-dev (build 0, commit 0c1e570)`; older ones print `version: 8123 (7e4c0a9)`
    text: str
    build: int | None  # not reliable: a packaged build says 1
    commit: str | None
    compiler: str | None

    @property
    def tag(self) -> str | None:
        """Upstream's name of its build (b11026); None where its number says nothing."""
        return None if self.build in {None, 0, 1} else f"b{self.build}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The options of one llama-server binary."""

    sha256: str  # of the program and its libraries (`capabilities.engine_digest`)
    version: Version
    options: tuple[Option, ...]
    dialect: Dialect = Dialect.LLAMA_CPP

    def option(self, spelling: str) -> Option | None:
        """Return the option with this spelling."""
        return next((option for option in self.options if spelling in option.spellings), None)

    def has(self, spelling: str) -> bool:
        """Tell if llama-server knows the flag (`--load-mode`, `-np`)."""
        return self.option(spelling) is not None

    def takes(self, spelling: str, value: str) -> bool:
        """Tell if the flag is known and takes this value; True if the help lists no values."""
        option = self.option(spelling)
        return option is not None and (not option.values or value in option.values)


def parse_help(text: str) -> tuple[Option, ...]:
    """Return the options of a `--help` text, in its order; none of a text of another kind."""
    options: list[Option] = []
    head: str | None = None
    body: list[str] = []
    for line in [*_flush_left(text.splitlines()), "--end"]:
        if line.startswith("-") and not line.startswith("-----"):
            if head is not None and (option := _option(head, body)) is not None:
                options.append(option)
            head, body = line, []
        elif line.startswith("-----"):
            continue
        elif head is not None:
            body.append(line.strip())
    return tuple(options)


def _flush_left(lines: list[str]) -> list[str]:
    """Return the lines with options at their beginning, without ik_llama.cpp's headings."""
    if any(_SPELLING.match(line) for line in lines):
        return lines
    return [_INDENTED.sub("", line) for line in lines if line.startswith(" ")]


def parse_version(text: str) -> Version | None:
    """Return what a `--version` text says, None of a text of another kind."""
    match = _VERSION.search(text)
    if match is None:
        return None
    compiler = _COMPILER.search(text)
    older = match["build"] is None and match["commit"] is not None and match["text"].isdigit()
    build = match["text"] if older else match["build"]
    return Version(
        text=match["text"],
        build=int(build) if build else None,
        commit=match["commit"] if match["commit"] not in {None, "unknown"} else None,
        compiler=compiler[1].strip() if compiler else None,
    )


def _option(head: str, body: list[str]) -> Option | None:
    spellings: list[str] = []
    at = 0
    while (match := _SPELLING.match(head, at)) is not None:
        spellings.append(match[0])
        at = match.end()
        separator = _SEPARATOR.match(head, at)
        if separator is None:
            break
        at = separator.end()
    if not spellings:
        return None
    hint = _HINT.match(head, at)
    first = head[hint.end() if hint else at :].strip()
    lines = [line for line in (first, *body) if line]
    text = " ".join(lines)
    if text.startswith(_REMOVED):
        return None  # it is listed to say what replaced it; using it is an error
    default = _DEFAULT.search(text)
    env = _ENV.search(text)
    default_word = next(filter(None, default.groups()), None) if default else None
    return Option(
        spellings=tuple(spellings),
        hint=hint[1] if hint else None,
        values=_values(hint[1], lines, default_word) if hint else (),
        default=default_word,
        env=env[1] if env else None,
        help=_ENV.sub("", text).strip(),
    )


def _values(hint: str, lines: list[str], default: str | None) -> tuple[str, ...]:
    """Return the words listed in the hint, after "allowed values:", or as bullets."""
    hinted = _HINTED.fullmatch(hint)
    if hinted is not None:
        return tuple(re.split(r"[|,]", hinted[1] or hinted[2]))
    listed = _LISTED.search(" ".join(lines))
    if listed is not None:
        return tuple(listed[1].split(", "))
    bullets = [match[1] for line in lines if (match := _BULLET.match(line)) is not None]
    if bullets and default is not None and default not in bullets:
        bullets.append(default)  # bullets may leave it out
    return tuple(bullets)
