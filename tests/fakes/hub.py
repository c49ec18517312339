"""A Hub on loopback: what the real huggingface_hub client and the real `llama-server -hf` ask of one.

Two servers, as in life: the Hub itself, and the storage host that LFS files are redirected to with a signed
link. Everything asked of either is in `seen`. Whatever should go wrong is a `Fault` in `faults`.

    with FakeHub() as hub:
        commit = hub.publish("user/repo", {"tiny-Q8_0.gguf": Path("tiny.gguf")})
        hub.faults.append(Fault(drop_after=1000, times=1))
        ... HF_ENDPOINT=hub.url ...
"""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Self

from tests.fakes.hub_http import HubHandler, HubServer, StorageHandler
from tests.fakes.hub_state import Fault, HubState, Repo, Seen

__all__ = ["FakeHub", "Fault", "Repo", "Seen"]


class FakeHub(HubState):
    """A running Hub: `url` is what HF_ENDPOINT takes; with `tls` both of its servers speak https."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._hub = HubServer("hub", self, HubHandler, tls)
        self._storage = HubServer("storage", self, StorageHandler, tls)
        self.url = self._hub.url
        self.storage_url = self._storage.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and self.crashes:
            raise self.crashes[0]

    def close(self) -> None:
        self.released.set()
        self._hub.stop()
        self._storage.stop()
