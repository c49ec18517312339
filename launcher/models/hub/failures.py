"""Explain why a file of the Hub did not arrive."""

from __future__ import annotations

import httpx2
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

from launcher.errors import HashMismatch, LauncherError, TryAgain, UsageError
from launcher.models.hub.endpoint import Endpoint, explained
from launcher.models.network.trouble import Trouble, TroubleKind
from launcher.models.transfer.download import Download
from launcher.system.certificates import AUTHORITY_HINT


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
    waits = trouble.retry_after_s or 0.0
    if trouble.kind is TroubleKind.BUSY and waits > longest_wait_s:
        return TryAgain(
            f"{host} is busy and asks to wait {waits:.0f} s",
            hint=f"with a token in HF_TOKEN the Hub's limits are higher; after that time: {again}",
        )
    goes_on = f"it goes on where it stopped: {again}"
    if trouble.kind in {TroubleKind.REFUSED, TroubleKind.LINK} and trouble.status is not None:
        refusal = _refusal(download, trouble, trouble.status, endpoint, repo)
        return refusal or TryAgain(f"{thing}: {trouble.reason}", hint=goes_on)
    if trouble.kind is TroubleKind.DISTRUSTED:
        reason = f"its certificate is not trusted: {trouble.reason}"
        return UsageError(f"{thing} cannot be fetched: {reason}", hint=AUTHORITY_HINT)
    if trouble.kind is TroubleKind.REFUSED:
        return UsageError(
            f"{thing} cannot be fetched: {trouble.reason}",
            hint=f"set HF_ENDPOINT to another mirror, then: {again}",
        )
    return TryAgain(f"{thing} did not arrive whole: {trouble.reason}", hint=goes_on)


def _refusal(
    download: Download, trouble: Trouble, status: int, endpoint: Endpoint, repo: str
) -> LauncherError | None:
    """Return huggingface_hub's own reading of the answer."""
    # with our own URL: the one that answered may be a signed link, which is secret
    answer = httpx2.Response(
        status, headers=list(trouble.headers), request=httpx2.Request("GET", download.url)
    )
    try:
        with explained(endpoint, repo, download.name):
            hf_raise_for_status(answer)
    except LauncherError as error:
        return error
    return None
