"""The words systemd is given; tests/real/test_systemd.py gives them to a real one."""

import getpass
from pathlib import Path

import pytest

from launcher.deployment.install import systemd
from launcher.deployment.install.systemd import unit_name
from launcher.deployment.install.transient import Service, is_available, properties, stop_unit, unit_command
from launcher.units import GIB

SERVICE = Service(
    unit=unit_name("m"),
    title="some/model",
    argv=("/bin/python", "-m", "launcher.deployment.supervisor", "/state/$m.json"),
    env={"HF_TOKEN": "hf_secret", "PATH": "/bin", "BASH_FUNC_x%%": "() { :; }"},
    log=Path("/state/m.log"),
    cwd=Path("/"),
    memory_bytes=5 * GIB,
)


def test_it_is_used_only_where_it_outlives_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, runtime, linger = tmp_path / "systemd-run", tmp_path / "runtime", tmp_path / "linger"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (runtime / "systemd").mkdir(parents=True)
    linger.mkdir()
    monkeypatch.setattr(systemd, "_LINGER", linger)
    environ = {"PATH": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime)}
    assert not is_available(environ)
    (runtime / "systemd/private").touch()
    assert not is_available(environ)
    (linger / getpass.getuser()).touch()
    assert is_available(environ)
    assert not is_available({**environ, "PATH": ""})
    assert not is_available({"PATH": str(tmp_path)})


def test_values_of_variables_are_in_no_command_line() -> None:
    words = unit_command(SERVICE)
    assert not [word for word in words if "hf_secret" in word]
    assert [word for word in words if word.startswith("--setenv=")] == ["--setenv=HF_TOKEN", "--setenv=PATH"]
    assert words[-5:] == ("--", "/bin/python", "-m", "launcher.deployment.supervisor", "/state/$$m.json")


def test_who_starts_what_again_is_in_the_unit() -> None:
    said = dict(each.split("=", 1) for each in properties(SERVICE))
    assert (said["Restart"], said["RestartPreventExitStatus"]) == ("on-failure", "5 6")
    assert (said["OOMPolicy"], said["KillMode"]) == ("continue", "mixed")
    assert said["MemoryMax"] == str(5 * GIB)
    assert said["StandardError"] == "append:/state/m.log"


def test_a_systemd_that_is_not_there_is_not_reached() -> None:
    assert not stop_unit("launcher-nobody.service", wait=True)
