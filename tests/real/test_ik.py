"""ik_llama.cpp, where it has been built: planned, served and measured like llama.cpp."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from launcher.engine.find import Engine, find_engine
from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import Header, parse_header
from tests.conftest import SETTINGS, STARTED_WITH, missing
from tests.ik_engine import ik_engine_in
from tests.make_gguf import Types, make_gguf
from tests.real.test_story import Shell
from tests.serving import until

pytestmark = pytest.mark.engine


@pytest.fixture(scope="session")
def ik_engine() -> Engine:
    """An ik_llama.cpp, out of the tests' cache."""
    named = STARTED_WITH.get("LAUNCHER_TEST_IK_ENGINE")
    if named:
        return find_engine(Path(named), None, SETTINGS.engines_dir)
    found = ik_engine_in(SETTINGS.cache_dir)
    if found is None:
        raise missing("no ik_llama.cpp is here (python -m tests.ik_engine, or LAUNCHER_TEST_IK_ENGINE)")
    return found


@pytest.fixture
def shell(ik_engine: Engine, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(ik_engine, tmp_path / "launcher")
    yield shell
    shell.type("stop", "--all")


def test_it_serves_what_was_planned(shell: Shell, default_model: Path) -> None:
    assert "dialect   ik_llama.cpp" in shell.type("engine", "info").stdout
    started = shell.json("up", str(default_model), "-c", "1024")
    assert started["plan"]["settings"]["dialect"] == "ik_llama.cpp"
    (row,) = started["load"]
    assert 0 < row["logged_bytes"] <= 1.01 * row["planned_bytes"]
    assert not Path("llama.log").exists()


def test_it_comes_back(shell: Shell, tmp_path: Path) -> None:
    (path,) = make_gguf(tmp_path / "m.gguf", "llama")
    started = shell.json("up", str(path), "-c", "256", "--name", "ik", "--", "-ger")
    assert started["argv"][-1] == "-ger"
    again = shell.json("restart", "ik")
    assert again["argv"] == started["argv"]
    os.kill(again["pid"], signal.SIGKILL)

    def is_back() -> bool:
        [entry] = shell.json("ps")
        return bool(entry["pid"] != again["pid"] and entry["phase"] == "ready")

    until(is_back)
    [entry] = shell.json("ps")
    assert psutil.Process(entry["pid"]).cmdline() == started["argv"]


def test_its_own_types_are_served_and_what_it_does_not_know_is_refused(shell: Shell, tmp_path: Path) -> None:
    (path,) = make_gguf(tmp_path / "m.gguf", "llama", types=Types(dense=GgmlType.Q4_0))
    raw, name = bytearray(path.read_bytes()), b"blk.0.ffn_down.weight"
    at = raw.index(name) + len(name) + 4 + 2 * 8  # dimensions, then the type
    assert raw[at] == GgmlType.Q4_0
    raw[at : at + 4] = GgmlType.Q4_0_R8.to_bytes(4, "little")
    header = parse_header(bytes(raw))
    assert isinstance(header, Header)
    tensor = next(tensor for tensor in header.tensors if tensor.name == name.decode())
    start = header.data_offset + tensor.offset
    raw[start : start + tensor.size_bytes] = bytes(tensor.size_bytes)  # its scales lie elsewhere
    path.write_bytes(raw)
    started = shell.json("up", str(path), "-c", "256", "--name", "own")
    (row,) = started["load"]
    assert 0 < row["logged_bytes"] <= 1.01 * row["planned_bytes"]
    path.write_bytes(bytes(raw).replace(b"llama", b"zlama"))
    refused = shell.type("plan", str(path))
    assert refused.returncode != 0
    assert "architecture" in refused.stderr
    assert "zlama" in refused.stderr
