"""Keep the secrets of URLs out of what is printed or recorded. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

_URL = re.compile("https?://", re.IGNORECASE)
_SECRETS_FOLLOW = re.compile("[?#]")  # a signed query, a fragment


def strip_secrets(url: str) -> str:
    """Return `url` (or any text) without user, password, query and fragment."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = _SECRETS_FOLLOW.split(rest, maxsplit=1)[0].partition("/")
    return scheme + separator + host.rpartition("@")[2] + slash + path


def strip_word_secrets(word: str) -> str:
    return strip_secrets(word) if _URL.match(word) else word


def quote_command(words: Sequence[str]) -> str:
    """Quote a command for a hint, noting any secrets left out."""
    safe = [strip_word_secrets(word) for word in words]
    line = shlex.join(safe)
    return line if safe == list(words) else f"{line}: with the whole URL, whose secrets are not shown"
