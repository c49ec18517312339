"""How much faster `parse_header` reads a header with Kimi's vocabulary than the gguf package's GGUFReader.

Both read the same hollow file, the page cache warm, in one run; ours from the file to the `Header`, the best
of five; theirs once, because it takes seconds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from launcher.gguf.header import Header, parse_header
from launcher.models.local import FileSource
from launcher.models.ranged_headers import SLACK_BYTES, read_header
from tests.make_gguf import make_gguf


def main(arguments: list[str]) -> int:
    """Print the ratio for `kimi-k2.5` with a BPE vocabulary, or for the .gguf file that was named."""
    with tempfile.TemporaryDirectory() as folder:
        if arguments:
            path = Path(arguments[0])
        else:
            path = Path(folder) / "kimi.gguf"
            make_gguf(path, "deepseek2", preset="kimi-k2.5", vocabulary="bpe", hollow=True)
        return _compare(path)


def _compare(path: Path) -> int:
    from gguf import GGUFReader  # noqa: PLC0415 (seconds to import where numpy is cold)

    source = FileSource(path, path.stat().st_size)
    header, raw = read_header(source)
    ours = min(_seconds(lambda: _read(path, len(raw))) for _ in range(5))
    theirs = _seconds(lambda: GGUFReader(path))
    print(f"header      {len(raw):>12,} bytes, {len(header.metadata)} keys, {len(header.tensors)} tensors")
    print(f"launcher    {ours * 1000:>12.1f} ms")
    print(f"GGUFReader  {theirs * 1000:>12.1f} ms")
    print(f"ratio       {theirs / ours:>12.0f} x")
    reads = _Counting(source)
    read_header(reads)
    print(
        f"ranged      {reads.n_reads:>12} reads, {reads.n_bytes - len(raw):,} bytes past the header (limit {SLACK_BYTES:,})"
    )
    return 0


def _read(path: Path, n_bytes: int) -> None:
    with path.open("rb") as file:
        assert isinstance(parse_header(file.read(n_bytes)), Header)


class _Counting:
    """A ByteSource that counts what is asked of another."""

    def __init__(self, source: FileSource) -> None:
        self._source = source
        self.name = source.name
        self.size_bytes = source.size_bytes
        self.n_reads = self.n_bytes = 0

    def read(self, offset: int, length: int) -> bytes:
        piece = self._source.read(offset, length)
        self.n_reads, self.n_bytes = self.n_reads + 1, self.n_bytes + len(piece)
        return piece


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
