"""Read zip archives that others made."""

from __future__ import annotations

import struct
import zipfile
import zlib

# What zipfile raises for an archive that is none: also for an encrypted one (RuntimeError), names that are no
# text (ValueError), and records that are cut (struct.error). An offset that no file has is OSError, EINVAL.
DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error,
)  # fmt: skip


def is_plain(entry: zipfile.ZipInfo) -> bool:
    """Tell if an entry is stored or deflated: LZMA takes as much memory as the archive says."""
    return entry.compress_type in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
