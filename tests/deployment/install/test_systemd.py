"""Units written where systemd looks, and removed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launcher.deployment.install.export import Export, systemd_unit
from launcher.deployment.install.systemd import (
    has_bus,
    install_unit,
    uninstall_unit,
    unit_folder,
    unit_name,
)
from launcher.errors import NotFound

PLAIN = Export(
    name="m",
    model_id="m",
    argv=(sys.executable, "-m", "/models/m.gguf"),
    port=8123,
    host_bytes=10 << 30,
    limit_bytes=12 << 30,
)


def test_it_is_installed_where_systemd_looks_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert not has_bus(system=False)
    done = install_unit("m", systemd_unit(PLAIN), system=False, now=True)
    assert (
        done.path
        == tmp_path / "systemd/user/launcher-m.service"
        == unit_folder(system=False) / unit_name("m")
    )
    assert done.started is None
    assert uninstall_unit("m", system=False) == done.path
    with pytest.raises(NotFound, match=r"no unit launcher-m\.service is installed"):
        uninstall_unit("m", system=False)


def test_a_unit_of_the_other_kind_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    here = unit_folder(system=False) / unit_name("only-for-this-user")
    here.parent.mkdir(parents=True)
    here.touch()
    with pytest.raises(NotFound) as caught:
        uninstall_unit("only-for-this-user", system=True)
    assert f"{here} is there" in caught.value.message
    assert caught.value.hint == "launcher disable only-for-this-user"
