"""What a llama-server says about itself, as values: its flags and its version. PURE.

Flags come and go between builds and an unknown one ends llama-server with status 1, so a plan is written
for the flags one binary really has. The layout of `--help` is made by common_arg::to_string
(common/arg.cpp): spellings, value hint, at least three blanks or a new line, help from column 40.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

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
_REMOVED = "the argument has been removed"

_VERSION = re.compile(r"version: (?P<text>\S+)(?: \((?:build (?P<build>\d+), commit )?(?P<commit>\w+)\))?")
_COMPILER = re.compile(r"built with (.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One entry of `--help`. `hint` is what stands for its value (`N`, `[on|off|auto]`), None for a switch;
    `values` the words it takes, empty where the help does not list them."""

    spellings: tuple[str, ...]
    hint: str | None
    values: tuple[str, ...]
    default: str | None
    env: str | None
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """`version: 0.5.0-dev (build 0, commit 0c1e570)`; older ones: `version: 8123 (7e4c0a9)`.

    Build numbers lie (a packaged build says 1); `commit` is None where it is not told.
    """

    text: str
    build: int | None
    commit: str | None
    compiler: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one llama-server binary can be told. `sha256` is of the program and its libraries
    (`capabilities.engine_digest`)."""

    sha256: str
    version: Version
    options: tuple[Option, ...]

    def option(self, spelling: str) -> Option | None:
        """The option with this spelling, long or short."""
        return next((option for option in self.options if spelling in option.spellings), None)

    def has(self, spelling: str) -> bool:
        """Whether llama-server knows the flag (`--load-mode`, `-np`)."""
        return self.option(spelling) is not None

    def takes(self, spelling: str, value: str) -> bool:
        """Whether the flag is known and may have this value; True where the help lists no values."""
        option = self.option(spelling)
        return option is not None and (not option.values or value in option.values)


def parse_help(text: str) -> tuple[Option, ...]:
    """Every option of a `--help` text, in its order; a text of another kind gives none.

    llama.cpp goes on listing flags it has removed, to say what replaced them; using one is an error, so they
    are left out.
    """
    options: list[Option] = []
    head: str | None = None
    body: list[str] = []
    for line in [*text.splitlines(), "--end"]:
        if line.startswith("-") and not line.startswith("-----"):
            if head is not None and (option := _option(head, body)) is not None:
                options.append(option)
            head, body = line, []
        elif line.startswith("-----"):
            continue
        elif head is not None:
            body.append(line.strip())
    return tuple(options)


def parse_version(text: str) -> Version | None:
    """What `--version` prints; None when it is something else."""
    found = _VERSION.search(text)
    if found is None:
        return None
    compiler = _COMPILER.search(text)
    older = found["build"] is None and found["commit"] is not None and found["text"].isdigit()
    build = found["text"] if older else found["build"]
    return Version(
        text=found["text"],
        build=int(build) if build else None,
        commit=found["commit"] if found["commit"] not in {None, "unknown"} else None,
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
        return None
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
    """The words listed in the hint, after "allowed values:", or as bullets (which may leave out the default)."""
    hinted = _HINTED.fullmatch(hint)
    if hinted is not None:
        return tuple(re.split(r"[|,]", hinted[1] or hinted[2]))
    listed = _LISTED.search(" ".join(lines))
    if listed is not None:
        return tuple(listed[1].split(", "))
    bullets = [match[1] for line in lines if (match := _BULLET.match(line)) is not None]
    if bullets and default is not None and default not in bullets:
        bullets.append(default)
    return tuple(bullets)
