"""One transient fault ends no read of any kind, and a fault that stays ends each in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import TryAgain
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.located import Located, PullOptions, UrlFiles
from launcher.models.store import HubStore
from launcher.models.url import open_url
from launcher.models.url_download import fetch_url_files
from launcher.progress import silent
from tests.attacks.published import FILE, MODEL, REF, REPO
from tests.fakes.hub import FakeHub, Fault
from tests.pulling import QUICK, QUICK_READS

IMPATIENT = replace(QUICK_READS, patience_s=0.3)
OPTIONS = PullOptions(tuning=replace(QUICK, patience_s=0.3))

TRANSIENT = {
    "429": Fault(status=429, retry_after="0"),
    "500": Fault(status=500),
    "503": Fault(status=503, retry_after="0"),
    "hang up": Fault(hang_up=True),
    "drop": Fault(drop_after=10),
    "reset": Fault(drop_after=0, reset=True),
    "short body": Fault(truncate_to=10),
    "stall before the body": Fault(stall_after=0),
    "stall": Fault(stall_after=10),
    "garbage": Fault(body=b"<html>log in</html>"),
}


@pytest.fixture
def hub(hub: FakeHub) -> FakeHub:
    hub.publish(REPO, {FILE: MODEL})
    return hub


@pytest.fixture
def endpoint(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, policy=IMPATIENT)


Read = Callable[[FakeHub, Endpoint, HubStore, Fault], Path | Located]


def _open_from_hub(hub: FakeHub, endpoint: Endpoint, store: HubStore, fault: Fault) -> Located:
    hub.faults.append(fault)
    return open_repo(REF, endpoint=endpoint, store=store)


def _pull_from_hub(hub: FakeHub, endpoint: Endpoint, store: HubStore, fault: Fault) -> Path:
    located = open_repo(REF, endpoint=endpoint, store=store)
    hub.faults.append(fault)
    (path,) = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    return path


def _url(hub: FakeHub) -> str:
    return f"{hub.url}/{REPO}/resolve/main/{FILE}"


def _open_url(hub: FakeHub, endpoint: Endpoint, store: HubStore, fault: Fault) -> Located:
    hub.faults.append(fault)
    return open_url(_url(hub), IMPATIENT)


def _pull_url(hub: FakeHub, endpoint: Endpoint, store: HubStore, fault: Fault) -> Path:
    located = open_url(_url(hub), IMPATIENT)
    assert isinstance(located.files, UrlFiles)
    hub.faults.append(fault)
    (path,) = fetch_url_files(located, located.files, store.folder / "url", silent, OPTIONS)
    return path


READS: dict[str, tuple[Read, dict[str, str]]] = {
    "commit": (_open_from_hub, {"where": "api", "match": "/revision/"}),
    "listing": (_open_from_hub, {"where": "api", "match": "/tree/"}),
    "header, at the Hub": (_open_from_hub, {"where": "resolve"}),
    "header, at its storage": (_open_from_hub, {"where": "storage"}),
    "bytes, at the Hub": (_pull_from_hub, {"where": "resolve"}),
    "bytes, at its storage": (_pull_from_hub, {"where": "storage"}),
    "header of a URL": (_open_url, {"where": "resolve"}),
    "header of a URL, redirected": (_open_url, {"where": "storage"}),
    "bytes of a URL": (_pull_url, {"where": "resolve"}),
    "bytes of a URL, redirected": (_pull_url, {"where": "storage"}),
}


@pytest.mark.parametrize("fault", TRANSIENT)
@pytest.mark.parametrize("kind", READS)
def test_one_transient_fault_is_survived(
    hub: FakeHub, endpoint: Endpoint, store: HubStore, *, kind: str, fault: str
) -> None:
    read, requests = READS[kind]
    if fault == "garbage" and "URL" in kind:
        pytest.skip("a URL that answers another file is said to have changed, or to know no ranges")
    outcome = read(hub, endpoint, store, replace(TRANSIENT[fault], times=1, **requests))
    hub.released.set()
    if isinstance(outcome, Path):
        assert outcome.read_bytes() == MODEL
    else:
        assert MODEL.startswith(outcome.raw_headers[0])


@pytest.mark.parametrize("fault", TRANSIENT)
@pytest.mark.parametrize(
    "kind", ["commit", "listing", "header, at its storage", "header of a URL, redirected"]
)
def test_a_fault_that_stays_is_said_in_a_sentence(
    hub: FakeHub, endpoint: Endpoint, store: HubStore, *, kind: str, fault: str
) -> None:
    read, requests = READS[kind]
    if fault == "garbage":
        pytest.skip("what is no model and what is no Hub has its own sentence")
    with pytest.raises(TryAgain) as caught:
        read(hub, endpoint, store, replace(TRANSIENT[fault], **requests))
    hub.released.set()
    assert "\n" not in caught.value.message
    assert caught.value.hint
