"""The Hub in use: its address, token and cache, and how it is read."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import huggingface_hub
from huggingface_hub import constants

from launcher.errors import NotFound, TryAgain
from launcher.models.url_secrets import strip_secrets
from launcher.system.network.policy import LOOK_UP, Policy

T = TypeVar("T")

# Else the library asks the Hub for its registry of agents (`/api/agent-harnesses`) once a day, and says in
# its user agent what else is installed.
constants.HF_HUB_DISABLE_TELEMETRY = True

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # what huggingface_hub reads


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A Hub."""

    url: str  # without a trailing slash
    token: str | None
    cache_dir: Path
    offline: bool = False
    policy: Policy = LOOK_UP  # for look-ups and headers, not for a transfer

    @property
    def host(self) -> str:
        return strip_secrets(self.url).partition("://")[2]

    @property
    def authorization(self) -> tuple[tuple[str, str], ...]:
        """The headers that carry the token; for this endpoint's own origin only."""
        return (("Authorization", f"Bearer {self.token}"),) if self.token else ()


def endpoint_in_use(*, offline: bool = False) -> Endpoint:
    """Return the Hub that the environment names; with `offline` as under HF_HUB_OFFLINE."""
    # The library reads HF_ENDPOINT, HF_TOKEN or the stored login, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE.
    offline = offline or constants.is_offline_mode()
    # who is not asked is told no token, and looking for one takes 40 ms
    has_no_token = offline or constants.HF_HUB_DISABLE_IMPLICIT_TOKEN
    return Endpoint(
        url=constants.ENDPOINT,
        token=None if has_no_token else huggingface_hub.get_token(),
        cache_dir=Path(constants.HF_HUB_CACHE),
        offline=offline,
    )


def within(seconds: float, work: Callable[[], T], *, host: str) -> T:
    """Return what `work` returns. Raises TryAgain if it takes longer than `seconds`."""
    outcome: list[T | BaseException] = []

    def attempt() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 (raised again below, in the caller's thread)
            outcome.append(error)

    # A name lookup cannot be interrupted and may take half a minute where DNS is blackholed, so it is left
    # behind in a daemon thread: it holds nothing that the exit of the process would have to wait for.
    thread = threading.Thread(target=attempt, daemon=True, name="hub-attempt")
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TryAgain(
            f"{host} did not answer within {seconds:g} s", hint="check the network, or set HF_ENDPOINT"
        )
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def online(again: str) -> str:
    """Return the command `again` without what forbids asking the Hub, for a hint."""
    words = shlex.split(again)
    # after `--` come flags of llama-server, which has an --offline of its own
    end = words.index("--") if "--" in words else len(words)
    own = [word for word in words[:end] if word != "--offline"]
    unset = [word for name in _OFFLINE if os.environ.get(name) for word in ("-u", name)]
    return shlex.join([*(["env", *unset] if unset else []), *own, *words[end:]])


def not_cached(endpoint: Endpoint, thing: str, *, folder: Path | None = None, again: str = "") -> NotFound:
    """Return the error for a file that is not here while the Hub may not be asked."""
    # `folder`: where it was looked for, instead of the cache; `again`: the command that was typed, if known
    return NotFound(
        f"{thing} is not in {folder or endpoint.cache_dir}, and the Hub may not be asked"
        " (--offline or HF_HUB_OFFLINE)",
        hint=online(again)
        if again
        else "leave --offline out and HF_HUB_OFFLINE unset, or pull it where there is a network",
    )
