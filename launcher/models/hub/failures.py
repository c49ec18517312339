"""Explain why the Hub was not read, or a file of it did not arrive."""

from __future__ import annotations

import re

from launcher.errors import HashMismatch, LauncherError, NotAllowed, NotFound, TryAgain, UsageError
from launcher.models.hub.endpoint import Endpoint
from launcher.models.transfer.download import Download
from launcher.system.certificates import AUTHORITY_HINT
from launcher.system.network.trouble import Trouble, TroubleKind

_COMMIT = re.compile("[0-9a-f]{40}")
_REFUSALS = frozenset({TroubleKind.REFUSED, TroubleKind.LINK})
_NO_REFUSAL = frozenset({None, 200, 206})  # it is we who refuse what came


def why_not_read(trouble: Trouble, *, endpoint: Endpoint, repo: str, what: str = "") -> LauncherError:
    """Return the error for a look-up that failed. `what` is the file or revision that was asked for."""
    named = what and not _COMMIT.fullmatch(what)  # a commit says nothing to a reader
    thing, host = f"{what} of {repo}" if named else repo, endpoint.host
    if trouble.kind in _REFUSALS and trouble.status not in _NO_REFUSAL:
        return _why_refused(trouble, endpoint, repo, thing)
    if trouble.kind is TroubleKind.BUSY and (trouble.retry_after_s or 0.0) > endpoint.policy.longest_wait_s:
        return _too_busy(trouble, host, "run it again then")
    kind: type[LauncherError] = TryAgain
    match trouble.kind:
        case TroubleKind.DISTRUSTED:
            kind, hint = UsageError, AUTHORITY_HINT
            message = f"the certificate of {host} is not trusted: {trouble.reason}"
        case TroubleKind.REFUSED:
            kind, hint = UsageError, "set HF_ENDPOINT to another Hub"
            message = f"{thing} cannot be read from {host}: {trouble.reason}"
        case TroubleKind.UNREACHABLE:
            hint = "check the network and HF_ENDPOINT, then run it again"
            message = f"{host} cannot be reached for {thing}: {trouble.reason}"
        case TroubleKind.BUSY:
            hint = "run it again in a minute"
            message = f"{host} answered {trouble.status} for {thing}"
        case TroubleKind.GARBLED | TroubleKind.TOO_LARGE:
            hint = "check HF_ENDPOINT, the proxy settings and the network's login page"
            what_else = f"something that the Hub's API does not say ({trouble.reason})"
            message = f"{host} answered for {repo} {what_else}"
        case TroubleKind.MISFIT | TroubleKind.VAGUE:
            hint = "run it again; if it stays so, the mirror in HF_ENDPOINT is damaged"
            message = f"{thing} did not arrive whole: {trouble.reason}"
        case _:
            hint = "run it again"
            message = f"{thing} was not read from {host}: {trouble.reason}"
    return kind(message, hint=hint)


def why_not_arrived(
    download: Download, trouble: Trouble, *, endpoint: Endpoint, repo: str, longest_wait_s: float, again: str
) -> LauncherError:
    """Return the error for `trouble`; the caller has removed a file with a wrong hash."""
    # `longest_wait_s`: how long a busy server is waited for; `again`: the command that continues
    thing, host = f"{download.name} of {repo}", endpoint.host
    if trouble.kind is TroubleKind.HASH:
        return HashMismatch(
            f"{thing} has the sha256 {trouble.reason[:12]}…, {host} says {(download.sha256 or '')[:12]}…;"
            " it was fetched twice, and the damaged file was removed",
            hint=f"take another quant or repo, or try once more: {again}",
        )
    if trouble.kind is TroubleKind.BUSY and (trouble.retry_after_s or 0.0) > longest_wait_s:
        return _too_busy(trouble, host, f"after that time: {again}")
    if trouble.kind in _REFUSALS and trouble.status not in _NO_REFUSAL:
        return _why_refused(trouble, endpoint, repo, thing)
    if trouble.kind is TroubleKind.DISTRUSTED:
        reason = f"its certificate is not trusted: {trouble.reason}"
        return UsageError(f"{thing} cannot be fetched: {reason}", hint=AUTHORITY_HINT)
    if trouble.kind is TroubleKind.REFUSED:
        return UsageError(
            f"{thing} cannot be fetched: {trouble.reason}", hint="set HF_ENDPOINT to another Hub"
        )
    return TryAgain(
        f"{thing} did not arrive whole: {trouble.reason}", hint=f"it goes on where it stopped: {again}"
    )


def _too_busy(trouble: Trouble, host: str, then: str) -> TryAgain:
    return TryAgain(
        f"{host} is busy and asks to wait {trouble.retry_after_s or 0.0:.0f} s",
        hint=f"with a token in HF_TOKEN the Hub's limits are higher; {then}",
    )


def _why_refused(trouble: Trouble, endpoint: Endpoint, repo: str, thing: str) -> LauncherError:
    """Return the error for an answer of the Hub, which names its reason in X-Error-Code."""
    code, page = dict(trouble.headers).get("x-error-code", ""), f"{endpoint.url}/{repo}"
    if code == "GatedRepo":
        return NotAllowed(
            f"{repo} is gated: its licence must be accepted at {page} by the account of the token",
            hint=f"accept it at {page}, then " + ("run it again" if endpoint.token else "set HF_TOKEN"),
        )
    kind: type[LauncherError] = NotAllowed
    if trouble.status == 403:
        message = f"{endpoint.host} denies access to {thing}"
        hint = f"see {page}; a fine-grained token needs read access to it"
    elif trouble.status == 401 and endpoint.token:
        message = f"{endpoint.host} refused the token for {thing}"
        hint = "set HF_TOKEN to a valid one: hf auth login"
    elif trouble.status == 401:
        message = f"{endpoint.host} has no repo {repo} for visitors without a token"
        hint = "check the name, or set HF_TOKEN if the repo is private"
    elif code == "RevisionNotFound":
        kind, message = NotFound, f"there is no revision {thing}"
        hint = f"see its branches at {page}/tree/main"
    elif code == "EntryNotFound":
        kind, message, hint = NotFound, f"there is no {thing}", f"see the files at {page}/tree/main"
    elif trouble.status == 404:
        kind, message = NotFound, f"{endpoint.host} has no repo {repo}"
        hint = f"search at {endpoint.url}/models"
    else:
        kind, message = TryAgain, f"{endpoint.host} answered {trouble.status} for {thing}"
        hint = "run it again in a minute"
    return kind(message, hint=hint)
