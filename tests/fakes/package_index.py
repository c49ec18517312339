"""A package index on loopback, as pip asks one, with the faults of the local Hub.

`where` of a Fault is "page" (of a package, with the links to its files) or "file".
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from tests.fakes.hub_http import HubServer, PlainHandler
from tests.fakes.hub_state import HubFile, HubState, make_file


class PackageIndex(HubState):
    """A running index: `url` is what PIP_INDEX_URL takes."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, HubFile] = {}
        self._server = HubServer("index", self, _Handler)
        self.url = f"{self._server.url}/simple"

    def publish_file(self, name: str, content: bytes) -> None:
        self.files[name] = make_file(name, content)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.stop()


class _Handler(PlainHandler):
    def _where(self) -> str:
        return "page" if self.url.path.startswith("/simple/") else "file"

    def answer(self) -> None:
        index = self.server.hub
        assert isinstance(index, PackageIndex)
        if self._where() == "page":
            links = "".join(f'<a href="/files/{name}">{name}</a>' for name in index.files)
            body = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()[: self.fault.truncate_to]
            self.send_head(200, {"Content-Type": "text/html"}, len(body))
            self.send_body(iter([body]), len(body))
        else:
            self.send_file(index.files[self.url.path.rpartition("/")[2]], {})
