"""Ask a server for a range of a file."""

from __future__ import annotations

from datetime import UTC, datetime

from launcher.models.transfer.download import Download
from launcher.system.network.answer import find_range_trouble
from launcher.system.network.connection import Connection
from launcher.system.network.request import Answer, Resource, ask
from launcher.system.network.trouble import Trouble


def request_range(
    connection: Connection, download: Download, link: str | None, begin: int, end: int
) -> Answer | Trouble:
    """Ask for bytes [begin, end), from `link` if one is known, else from the file's own address."""
    whole = begin == 0 and end == download.size_bytes
    resource = Resource(url=download.url, headers=download.headers)
    span = {} if whole else {"Range": f"bytes={begin}-{end - 1}"}
    answer = ask(lambda _: connection, resource, headers=span, link=link)
    if isinstance(answer, Trouble):
        return answer
    now = datetime.now(UTC)
    return find_range_trouble(answer.head, position=begin, size_bytes=download.size_bytes, now=now) or answer
