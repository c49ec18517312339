"""A wheel may be damaged or made to do harm: taking the model out of it is quick, small, and a file or a sentence."""

from __future__ import annotations

import io
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import LauncherError, TryAgain
from launcher.models.wheel import copy_member
from launcher.progress import silent
from launcher.units import MIB
from tests.attacks.bounds import bounded, check_sentence
from tests.attacks.test_properties_claims import EXAMPLES
from tests.models.test_wheel import make_wheel

MODEL = b"x" * 5000
with tempfile.TemporaryDirectory() as _folder:
    SOURCE = make_wheel(Path(_folder), MODEL)
    (_path,) = Path(_folder).iterdir()
    GOOD = _path.read_bytes()


def taken_out(wheel: bytes) -> bytes | None:
    """Return the model, or None for a wheel that is refused."""
    with tempfile.NamedTemporaryFile(suffix=".whl") as file:
        file.write(wheel)
        file.flush()
        out = io.BytesIO()
        with bounded():
            try:
                copy_member(SOURCE, Path(file.name), out.write, silent)
            except LauncherError as error:
                check_sentence(error.message, 500)
                return None
        return out.getvalue()


@EXAMPLES
@given(st.binary(max_size=1 << 13))
def test_bytes(wheel: bytes) -> None:
    assert taken_out(wheel) is None


@EXAMPLES
@given(st.integers(0, len(GOOD)), st.binary(max_size=8), st.integers(0, 16))
def test_damage(at: int, junk: bytes, cut: int) -> None:
    assert taken_out(GOOD[:at] + junk + GOOD[at + cut :]) in {None, MODEL}


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb(method: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(SOURCE.member, bytes(64 * MIB))
    assert taken_out(file.getvalue()) is None


def test_another_member_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "w.whl").write_bytes(GOOD)
    with pytest.raises(LauncherError):
        copy_member(replace(SOURCE, member="../x"), tmp_path / "w.whl", len, silent)
    with pytest.raises(TryAgain, match="has the sha256"):
        copy_member(replace(SOURCE, sha256="0" * 64), tmp_path / "w.whl", len, silent)
