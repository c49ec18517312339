"""Read the small text files in which Linux describes the machine, /proc and /sys.

Reading never raises: a file that is missing, denied or not text is None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# a limit for a file that never ends; /proc/cpuinfo of 1024 CPUs is 1.5 MB
_MOST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFiles:
    """Files under paths as on the machine (`/proc/meminfo`), below a `root` that tests choose."""

    root: Path = Path("/")

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def data(self, path: str, most: int = _MOST_BYTES) -> bytes | None:
        try:
            with self.at(path).open("rb") as file:
                return file.read(most)
        except (OSError, ValueError):
            return None

    def text(self, path: str) -> str | None:
        """Read a file without the white space at both ends."""
        content = self.data(path)
        try:
            return None if content is None else content.decode().strip()
        except UnicodeDecodeError:
            return None

    def number(self, path: str) -> int | None:
        """Read a whole number, in decimal or as 0x1002."""
        try:
            return int(self.text(path) or "", 0)
        except ValueError:
            return None

    def names(self, folder: str, pattern: str) -> tuple[str, ...]:
        """List the names that match all of `pattern`, node10 after node2."""
        try:
            names = [entry.name for entry in self.at(folder).iterdir() if re.fullmatch(pattern, entry.name)]
        except OSError:
            return ()
        return tuple(sorted(names, key=_natural))


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))


def parse_meminfo(text: str) -> dict[str, int]:
    """Parse /proc/meminfo, or a NUMA node's (`Node 0 MemFree: 123 kB`), into bytes by name."""
    rows = re.finditer(r"^(?:Node\s+\d+\s+)?([\w()]+):\s+(\d+)(\s+kB)?\s*$", text, re.MULTILINE)
    return {
        name: int(value) * (1024 if kib else 1) for name, value, kib in (match.groups() for match in rows)
    }


def parse_mount_path(field: str) -> str:
    r"""Decode a path of /proc/self/mountinfo, where space, tab, newline and backslash are octal (`\040`)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
