"""The Hub in use: address, token, cache and HTTP client, and its failures explained to the user."""

from __future__ import annotations

import errno
import logging
import os
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import httpx2
import huggingface_hub
from huggingface_hub import constants, errors

from launcher.errors import LauncherError, NotAllowed, NotFound, TryAgain, UsageError
from launcher.system.certificates import AUTHORITY_HINT, trusted_certificates, why_distrusted

T = TypeVar("T")
_Origin = tuple[str, str, int]

HUB_PATIENCE_S = 10.0  # huggingface_hub's own DEFAULT_REQUEST_TIMEOUT: connect, and silence between two reads
_LONGEST_WAIT_S = 60  # a busy Hub may ask for this much and gets it; more is the user's to decide
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # what huggingface_hub reads
_RATE_LIMIT = re.compile(r"r=0\s*;\s*t=(\d+)")  # of `RateLimit: "api";r=0;t=55`, as the Hub sends it
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A Hub. `patience_s` bounds each silence of the network, not a transfer."""

    url: str  # without a trailing slash
    token: str | None
    cache_dir: Path
    offline: bool = False
    patience_s: float = HUB_PATIENCE_S

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    @property
    def library_token(self) -> str | bool:
        """The value for huggingface_hub's `token=`."""
        # never None, or the library would look for a token itself
        return self.token or False

    @property
    def headers(self) -> dict[str, str]:
        # for requests made without huggingface_hub
        # identity: a range counts the file's own bytes, not compressed ones
        headers = {"Accept-Encoding": "identity", "User-Agent": "gguf-launcher"}
        return headers | {"Authorization": f"Bearer {self.token}"} if self.token else headers


def endpoint_in_use() -> Endpoint:
    """Return the Hub that the environment names."""
    # The library reads HF_ENDPOINT, HF_TOKEN or the stored login, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE.
    return Endpoint(
        url=constants.ENDPOINT,
        token=None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else huggingface_hub.get_token(),
        cache_dir=Path(constants.HF_HUB_CACHE),
        offline=constants.is_offline_mode(),
    )


def open_session(endpoint: Endpoint) -> httpx2.Client:
    """Return the client for `endpoint`: shared by all threads, never closed."""
    if endpoint.offline:  # a value: the library knows the environment's alone
        raise errors.OfflineModeIsEnabled("the Hub may not be asked")
    if not _Rules.installed:
        # Its warnings go to stderr, right through our progress; what they announce is explained below.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        huggingface_hub.set_client_factory(_make_client)
        _Rules.installed = True
    if endpoint.token:
        origins = _Rules.homes.setdefault(f"Bearer {endpoint.token}", set())
        origins.add(_origin(httpx2.URL(endpoint.url)))
    return huggingface_hub.get_session()


class _Rules:
    """State of the one client of this process."""

    installed = False
    homes: ClassVar[dict[str, set[_Origin]]] = {}  # the origins that each of our tokens may go to


def _make_client() -> httpx2.Client:
    # Every request, the library's and ours: each has a timeout, and the token goes to its own origin only.
    return httpx2.Client(
        event_hooks={"request": [_before_request], "response": [_after_response]},
        follow_redirects=True,
        timeout=HUB_PATIENCE_S,
        verify=trusted_certificates(),
    )


def _before_request(request: httpx2.Request) -> None:
    """Guard the token and set a timeout."""
    # called before every request, redirected ones too
    if constants.is_offline_mode():
        raise errors.OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    # huggingface_hub forwards the token to the public Hub when a private endpoint redirects there
    # (utils/_http.py, _is_same_or_hub_host)
    homes = _Rules.homes.get(request.headers.get("authorization", ""))
    if homes is not None and _origin(request.url) not in homes:
        del request.headers["authorization"]
    timeout = request.extensions.get("timeout") or {}
    # huggingface_hub lists trees without any timeout (_paginate_pages)
    if all(value is None for value in timeout.values()):
        request.extensions["timeout"] = httpx2.Timeout(HUB_PATIENCE_S).as_dict()


def _after_response(response: httpx2.Response) -> None:
    """Raise TryAgain if a busy Hub asks for too long a wait."""
    # the library would sleep for as long, silently, up to five times (_http_backoff_base)
    if response.status_code not in {429, 503}:
        return
    said = [response.headers.get("Retry-After", "").strip()]
    said += _RATE_LIMIT.findall(response.headers.get("RateLimit", ""))
    wait_s = max((int(text) for text in said if text.isdigit()), default=0)
    if wait_s > _LONGEST_WAIT_S:
        raise TryAgain(
            f"{response.request.url.host} is busy and asks to wait {wait_s} s",
            hint="run it again then; with a token in HF_TOKEN the Hub's limits are higher",
        )


def _origin(url: httpx2.URL) -> _Origin:
    return url.scheme, url.host.lower(), url.port or _DEFAULT_PORTS.get(url.scheme, 0)


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


@contextmanager
def explained(endpoint: Endpoint, repo: str, what: str = "") -> Iterator[None]:
    """Turn what huggingface_hub, httpx2 and the disk raise inside the block into launcher's errors."""
    # `what`: the file or revision to name in the message
    try:
        yield
    except LauncherError:
        raise
    except errors.LocalEntryNotFoundError as error:  # the library found nothing in its cache, because of:
        cause = error.__cause__
        if isinstance(cause, errors.HfHubHTTPError | httpx2.HTTPError | httpx2.InvalidURL):
            raise _explain(cause, endpoint, repo, what) from error
        raise _explain(error, endpoint, repo, what) from error
    except (errors.HfHubHTTPError, httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise _explain(error, endpoint, repo, what) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # Parsing what a proxy's login page or a half-compatible mirror answered with status 200.
        raise TryAgain(
            f"{endpoint.host} answered for {repo} something that the Hub's API does not say ({error})",
            hint="check HF_ENDPOINT, the proxy settings and the network's login page",
        ) from error


def _explain(error: Exception, endpoint: Endpoint, repo: str, what: str) -> LauncherError:
    thing = f"{what} of {repo}" if what else repo
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_answer(error, endpoint, repo, thing)
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        return not_cached(endpoint, thing)
    if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        return UsageError(
            f"{endpoint.url} is not the address of a Hub: {error}", hint="set HF_ENDPOINT=https://…"
        )
    wrong = why_distrusted(error)
    if wrong is not None:
        return UsageError(f"the certificate of {endpoint.host} is not trusted: {wrong}", hint=AUTHORITY_HINT)
    if isinstance(error, httpx2.HTTPError):
        return TryAgain(
            f"{endpoint.host} cannot be reached for {thing}: {_reason(error)}",
            hint="check the network and HF_ENDPOINT, then run it again",
        )
    assert isinstance(error, OSError)  # noqa: S101 (the only kind left in `explained`)
    return _explain_disk(error, endpoint, thing)


def _explain_answer(error: errors.HfHubHTTPError, endpoint: Endpoint, repo: str, thing: str) -> LauncherError:
    status = error.response.status_code
    page = f"{endpoint.url}/{repo}"
    if isinstance(error, errors.GatedRepoError) or status in {401, 403}:
        return _explain_refusal(error, endpoint, repo, thing)
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFound(f"there is no revision {thing}", hint=f"see its branches at {page}/tree/main")
    if isinstance(error, errors.EntryNotFoundError):
        return NotFound(f"there is no {thing}", hint=f"see the files at {page}/tree/main")
    if status == 404:
        return NotFound(f"{endpoint.host} has no repo {repo}", hint=f"search at {endpoint.url}/models")
    return TryAgain(f"{endpoint.host} answered {status} for {thing}", hint="run it again in a minute")


def _explain_refusal(error: errors.HfHubHTTPError, endpoint: Endpoint, repo: str, thing: str) -> NotAllowed:
    page = f"{endpoint.url}/{repo}"
    if isinstance(error, errors.GatedRepoError):
        return NotAllowed(
            f"{repo} is gated: its licence must be accepted at {page} by the account of the token",
            hint=f"accept it at {page}, then " + ("run it again" if endpoint.token else "set HF_TOKEN"),
        )
    if error.response.status_code == 403:
        return NotAllowed(
            f"{endpoint.host} denies access to {thing}",
            hint=f"see {page}; a fine-grained token needs read access to it",
        )
    if endpoint.token:
        return NotAllowed(
            f"{endpoint.host} refused the token for {thing}",
            hint="set HF_TOKEN to a valid one: hf auth login",
        )
    return NotAllowed(
        f"{endpoint.host} has no repo {repo} for visitors without a token",
        hint="check the name, or set HF_TOKEN if the repo is private",
    )


def _explain_disk(error: OSError, endpoint: Endpoint, thing: str) -> LauncherError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return TryAgain(
            f"the file system of {endpoint.cache_dir} ran full during {thing}",
            hint=f"free space there, or set HF_HUB_CACHE to another disk: df -h {endpoint.cache_dir}",
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return UsageError(
            f"{error.filename or endpoint.cache_dir} cannot be written: {error.strerror}",
            hint="set HF_HUB_CACHE to a folder of yours",
        )
    return TryAgain(f"{thing} did not arrive whole: {_reason(error)}", hint="run it again")


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


def _reason(error: Exception) -> str:
    # the first line only: huggingface_hub adds paragraphs
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
