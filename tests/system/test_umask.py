"""Nothing that is made is writable by all users."""

from __future__ import annotations

import os

import pytest

from launcher.system.umask import tighten_umask


@pytest.mark.parametrize(
    ("before", "after"), [(0o000, 0o022), (0o002, 0o002), (0o077, 0o077), (0o020, 0o022)]
)
def test_nothing_is_made_writable_by_all(before: int, after: int) -> None:
    original = os.umask(before)
    try:
        tighten_umask()
    finally:
        assert os.umask(original) == after
