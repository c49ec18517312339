"""Turn what the user typed into a `ModelRef`. Pure: `path_exists` is passed in.

The forms, each a *reading* of the text; exactly one must fit:

  profile   NAME[:QUANT]                                 kimi-k2.5, kimi-k2.5:TQ1_0
  hub       [hf:|hf.co/]USER/REPO[@REV][:QUANT]          llama.cpp's own form, or USER/REPO[@REV]/FILE.gguf
            a pasted page: https://huggingface.co/USER/REPO[/tree|blob|resolve/REV/...]
  url       https://HOST/....gguf
  path      has a / or ends in .gguf, and exists (./, ../, / and ~/ are always paths)

Names are checked here, before any of them can become part of a path or a URL.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from launcher.errors import NotFound, UsageError
from launcher.models.profiles.near import near_names
from launcher.models.url_secrets import strip_secrets, strip_word_secrets
from launcher.units import listed

# A longer path (PATH_MAX is 4096 on Linux, 1024 on macOS) or URL is a paste accident.
_LONGEST_TEXT = 2048
_LONGEST_NAME = 255  # NAME_MAX of every common file system
_HUB_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
_HUB_PREFIX = re.compile(r"hf:(?://)?|(?:www\.)?huggingface\.co/|hf\.co/", re.IGNORECASE)
_BARE_PAGE = re.compile(  # copied from an address bar that hides the scheme
    r"(?:(?:www\.)?huggingface\.co|hf\.co)/[^/]+/[^/]+/(?:tree|blob|resolve)/", re.IGNORECASE
)
# The Hub's own rule (huggingface_hub/utils/_validators.py, validate_repo_id), with a namespace, which every
# GGUF repo has: no `--`, no `..`, neither end a dot or dash.
_WORD = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]|\.(?![.-]))*(?<![.-])"  # each character in one way: linear
_REPO = re.compile(rf"{_WORD}/{_WORD}")
_LONGEST_REPO_WORD = 96
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
_QUANT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_HUB_REPO = re.compile(r"[^/@:]+/[^/@:]+")
# First path components of Hub pages that are no user's.
_SECTIONS = frozenset({"datasets", "spaces", "buckets", "kernels", "collections", "docs", "blog", "papers"})
_FORMS = "a profile, user/repo:QUANT, an https URL, or a path"


class RefKind(StrEnum):
    PROFILE = "profile"
    HUB = "hub"
    URL = "url"
    PATH = "path"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A model as the user named it."""

    kind: RefKind
    name: str  # by `kind`: the profile's name, the hub repo (`user/repo`), the URL or the path
    quant: str | None = None  # `user/repo:Q4_K_M`
    file: str | None = None  # `user/repo/file.gguf`
    revision: str | None = None  # a branch, tag or commit


def parse_ref(
    text: str,
    *,
    profile_names: Iterable[str],
    path_exists: Callable[[str], bool],
    hub_url: str = "https://huggingface.co",  # the Hub in use: pages pasted from it are hub references too
) -> ModelRef:
    """Return what `text` refers to, if it can be read in exactly one way.

    Raises UsageError if `text` has no safe or no single reading, NotFound if it names nothing.
    """
    _refuse_odd_text(text)
    if "://" in text and not text.lower().startswith("hf:"):
        return _parse_url(text, hub_url)
    if _BARE_PAGE.match(text):
        return _parse_url("https://" + text, hub_url)
    if text.startswith(("/", "./", "../", "~/")):  # a path for certain, whatever else it could be
        return _parse_explicit_path(text, path_exists)
    names = tuple(profile_names)
    readings = _readings(text, names, path_exists)
    if len(readings) > 1:
        raise UsageError(
            f"{text!r} can be read in {len(readings)} ways: {', '.join(words for words, _ in readings)}",
            hint="write ./ before a path, or hf: before a hub repo",
        )
    if not readings:
        if path_exists(text):
            raise NotFound(
                f"{text!r} names no profile or hub repo, and a path is written with a /",
                hint=f"launcher plan {shlex.quote(f'./{text}')}",
            )
        raise _nothing_fits(text, names)
    _, ref = readings[0]
    return ref


def _readings(
    text: str, names: tuple[str, ...], path_exists: Callable[[str], bool]
) -> list[tuple[str, ModelRef]]:
    """Return every way to read `text`, with words for an error."""
    readings: list[tuple[str, ModelRef]] = []
    profile = _read_profile(text, names)
    if profile is not None:
        readings.append((f"the profile {profile.name}", profile))
    if ("/" in text or text.lower().endswith(".gguf")) and path_exists(text):
        readings.append((f"the path ./{text}", ModelRef(kind=RefKind.PATH, name=text)))
    hub = _read_hub(text)
    if hub is not None:
        readings.append((f"the hub repo hf:{_HUB_PREFIX.sub('', text, count=1)}", hub))
    return readings


def safe_file_name(name: str) -> str | None:
    """Say what is wrong with a file name inside a repo; None if it may become a path."""
    # Listings come from a server: a name must stay below the folder it is joined to on every system.
    if not name or len(name) > _LONGEST_TEXT:
        return "is empty or too long"
    if not name.isprintable() or "\\" in name or ":" in name:
        return "has a control character, backslash or colon"
    for part in name.split("/"):
        if part in {"", ".", ".."}:
            return f"has the component {part!r}"
        if len(part.encode()) > _LONGEST_NAME:
            return f"has a component longer than {_LONGEST_NAME} bytes"
    return None


def _refuse_odd_text(text: str) -> None:
    if not text.strip():
        raise UsageError("the model reference is empty", hint=f"name {_FORMS}")
    if len(text) > _LONGEST_TEXT:
        raise UsageError(
            f"the model reference has {len(text)} characters, more than {_LONGEST_TEXT}",
            hint=f"name {_FORMS}",
        )
    if not text.isprintable():
        raise UsageError(f"the model reference {text!r} has a control character", hint="type it anew")


def _read_profile(text: str, names: tuple[str, ...]) -> ModelRef | None:
    name, colon, quant = text.partition(":")
    known_name = next((known for known in names if known.lower() == name.lower()), None)
    if known_name is None:
        return None
    if colon:
        _check_quant(quant, text)
    return ModelRef(kind=RefKind.PROFILE, name=known_name, quant=quant or None)


def _read_hub(text: str) -> ModelRef | None:
    rest = _HUB_PREFIX.sub("", text, count=1) if _HUB_PREFIX.match(text) else text
    explicit = rest != text
    parts = _split_hub(rest)
    if parts is None or not is_repo(parts.repo):
        if explicit:  # by its prefix it must be one
            raise UsageError(
                f"{text!r} is not a hub repo", hint="write it as hf:user/repo or hf:user/repo:QUANT"
            )
        return None
    quant, file = parts.quant, parts.file
    if quant is None and file is None and not explicit and rest.lower().endswith(".gguf"):
        return None  # models/x.gguf is a path that is not there, far sooner than a repo called x.gguf
    # `user/repo:x.gguf` names a file of the repo.
    if quant is not None and quant.lower().endswith(".gguf"):
        quant, file = None, quant
    if quant is not None:
        _check_quant(quant, text)
    return _hub_ref(text, repo=parts.repo, revision=parts.revision, quant=quant, file=file)


class _HubParts(NamedTuple):
    """A repo, and what is behind it: `@revision`, then `:quant` or `/file.gguf`."""

    repo: str
    revision: str | None = None
    quant: str | None = None
    file: str | None = None


def _split_hub(text: str) -> _HubParts | None:
    # by hand: a regular expression tries every end of the revision, and is quadratic
    match = _HUB_REPO.match(text)
    if match is None:
        return None
    repo, (rest, colon, quant) = match[0], text[match.end() :].partition(":")
    if ":" in quant:
        return None
    before, _, name = rest.partition("/")
    file = name if not colon and name.endswith(".gguf") and name != ".gguf" else None
    behind = rest if file is None else before
    revision = behind[1:] if behind.startswith("@") else ""
    if behind and not revision:
        return None
    return _HubParts(repo, revision or None, quant if colon else None, file)


def _hub_ref(text: str, *, repo: str, revision: str | None, quant: str | None, file: str | None) -> ModelRef:
    if revision is not None and (len(revision) > _LONGEST_NAME or not _is_revision(revision)):
        raise UsageError(
            f"{revision!r} in {strip_word_secrets(text)!r} is not a revision",
            hint="a branch, a tag or a commit of the repo",
        )
    if file is not None:
        wrong = safe_file_name(file)
        if wrong is not None:
            raise UsageError(f"the file name {file!r} {wrong}", hint="name a file as the repo lists it")
    return ModelRef(kind=RefKind.HUB, name=repo, quant=quant, file=file, revision=revision)


def _parse_explicit_path(text: str, path_exists: Callable[[str], bool]) -> ModelRef:
    if not path_exists(text):
        raise NotFound(f"there is no file {text}", hint=f"check the path with: ls -l {shlex.quote(text)}")
    return ModelRef(kind=RefKind.PATH, name=text)


def _parse_url(text: str, hub_url: str) -> ModelRef:
    if " " in text:
        raise UsageError(
            f"the URL {strip_secrets(text)!r} has a space", hint="write %20 for a space in a URL"
        )
    try:
        url = urlsplit(text)
        host = (url.hostname or "").lower()
        port = url.port
    except ValueError as error:
        raise UsageError(f"{strip_secrets(text)!r} is not a URL: {error}", hint=f"name {_FORMS}") from error
    if url.scheme.lower() not in {"http", "https"} or not host:
        raise UsageError(
            f"the URL {strip_secrets(text)!r} is neither http nor https",
            hint="give an https://….gguf URL or a path",
        )
    hub = urlsplit(hub_url)
    # A Hub behind a mirror may live below a path of its host.
    at_endpoint = (host, port) == ((hub.hostname or "").lower(), hub.port)
    prefix = hub.path.rstrip("/") if at_endpoint else ""
    if (at_endpoint or host in _HUB_HOSTS) and url.path.startswith(prefix + "/"):
        return _parse_page(text, url.path.removeprefix(prefix), url.query)
    if not unquote(url.path).lower().endswith(".gguf"):
        raise UsageError(
            f"the URL {strip_secrets(text)!r} does not end in .gguf and {host} is not the Hub in use",
            hint=f"give the .gguf file's own URL, or set HF_ENDPOINT to use {host} as the Hub",
        )
    return ModelRef(kind=RefKind.URL, name=text)


def _parse_page(text: str, path: str, query: str) -> ModelRef:
    # /user/repo, then nothing, /tree/REV[/FOLDER] or /blob|resolve/REV/FILE
    parts = [unquote(part) for part in path.split("/") if part]
    repo = "/".join(parts[:2])
    if len(parts) < 2 or parts[0] in _SECTIONS or not is_repo(repo):
        raise UsageError(
            f"the page {strip_secrets(text)} is not a model's", hint="paste https://huggingface.co/user/repo"
        )
    view, rest = (parts[2], parts[3:]) if len(parts) > 2 else ("", [])
    if view in {"blob", "resolve", "raw"} and len(rest) > 1:
        file = "/".join(rest[1:])
        if not file.lower().endswith(".gguf"):
            raise UsageError(f"{file} of {repo} is not a GGUF file", hint=f"launcher plan hf:{repo}:Q4_K_M")
        return _hub_ref(text, repo=repo, revision=rest[0], quant=None, file=file)
    if view == "tree" and rest:
        folder = "/".join(rest[1:])  # repos keep a quant in a folder of its name
        if folder and safe_file_name(folder) is not None:
            raise UsageError(
                f"the folder {folder!r} {safe_file_name(folder)}", hint=f"launcher plan hf:{repo}"
            )
        return _hub_ref(text, repo=repo, revision=rest[0], quant=folder or None, file=None)
    opened = parse_qs(query).get("show_file_info", [""])[0]  # the file browser's pop-up
    return _hub_ref(text, repo=repo, revision=None, quant=None, file=opened or None)


def is_repo(repo: str) -> bool:
    """Tell if the text can be the name of a repo on the Hub: USER/REPO."""
    return _REPO.fullmatch(repo) is not None and all(
        len(word) <= _LONGEST_REPO_WORD and "--" not in word and not word.endswith(".git")
        for word in repo.split("/")
    )


def _is_revision(revision: str) -> bool:
    return _REVISION.fullmatch(revision) is not None and ".." not in revision


def _check_quant(quant: str, text: str) -> None:
    if _QUANT.fullmatch(quant) is None:
        raise UsageError(f"{quant!r} in {text!r} is not a quant", hint="write it like user/repo:Q4_K_M")


def _nothing_fits(text: str, names: tuple[str, ...]) -> NotFound:
    if text.lower().endswith(".gguf"):
        return NotFound(f"there is no file {text}", hint=f"ls -l {shlex.quote(text)}")
    near = near_names(text, names)
    instead = f"near it are {listed(near)}" if near else f"name {_FORMS}"
    hint = f"launcher profiles show {near[0]}" if near else "launcher models"
    return NotFound(f"{text!r} names no profile, file or hub repo; {instead}", hint=hint)
