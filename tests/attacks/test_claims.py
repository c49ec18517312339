"""The folder of claims is open to all users of the machine: what they plant there harms nobody."""

from __future__ import annotations

import json
import mmap
import os
import socket
import stat
import time
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from launcher.commands.claims import claim, read_reserved
from launcher.commands.here import Here, here_with
from launcher.deployment.claims import (
    Claim,
    claim_key,
    drop_claim,
    hold_planning_lock,
    read_claims,
    write_claim,
)
from launcher.deployment.identity import identify
from launcher.deployment.reserved import count_reserved
from launcher.plan.amounts import RAM
from launcher.progress import Step
from launcher.system.owned_files import NotOurs
from tests.strangers import STRANGER, give, needs_root, strangers_process

# Generous: what is unbounded takes minutes.
_SOON_S = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of claims beside folders of all users, like the one in /dev/shm."""
    (tmp_path / "shm").mkdir()
    (tmp_path / "shm").chmod(0o1777)
    for above in (tmp_path, *tmp_path.parents):
        if not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o011)
    folder = tmp_path / "shm" / "launcher-claims"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def document(pid: int, **changed: object) -> dict[str, Any]:
    process = identify(pid)
    assert process is not None
    claim = asdict(Claim(name="theirs", process=process, rows={RAM: 1 << 40, "GPU-1": 1 << 40}))
    del claim["owner"]
    return {**claim, **changed}


def plant(folder: Path, name: str, content: dict[str, Any]) -> Path:
    path = folder / f"{name}.claim"
    path.write_text(json.dumps(content))
    give(path)
    return path


def mine(folder: Path, **changed: Any) -> None:
    process = identify(os.getpid())
    assert process is not None
    write_claim(
        folder,
        claim_key(folder, "a"),
        Claim(**{"name": "a", "process": process, "rows": {"GPU-1": 10}, **changed}),
    )


def test_a_planted_link_gets_neither_mode_nor_file(folder: Path, tmp_path: Path) -> None:
    folder.rmdir()
    victims = tmp_path / "victim"
    victims.mkdir(mode=0o700)
    kept = victims / "dead.claim"
    kept.write_text("{}")
    folder.symlink_to(victims)
    with hold_planning_lock(folder):
        assert read_claims(folder) == ()
    with pytest.raises(NotOurs, match="a folder is needed"):
        mine(folder)
    drop_claim(folder, "dead")
    assert stat.S_IMODE(victims.stat().st_mode) == 0o700
    assert list(victims.iterdir()) == [kept]


def test_pipes_sockets_links_and_devices_are_passed_over(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "pipe.claim")
    os.mkfifo(folder / ".lock")
    outside = tmp_path / "outside"
    outside.write_text(json.dumps(document(os.getpid())))
    (folder / "link.claim").symlink_to(outside)
    (folder / "hard.claim").hardlink_to(outside)
    (folder / "folder.claim").mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as bound:
        bound.bind(str(folder / "socket.claim"))
        began = time.monotonic()
        with hold_planning_lock(folder):
            assert read_claims(folder) == ()
        assert time.monotonic() - began < _SOON_S
    assert outside.exists()


def test_who_waits_for_the_lock_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.deployment.claims.WAIT_S", 0.2)
    told: list[str] = []
    with hold_planning_lock(folder), hold_planning_lock(folder, on_wait=lambda: told.append("waiting")):
        assert told == ["waiting"]


def test_a_lock_that_is_another_name_of_a_file_keeps_its_mode(folder: Path, tmp_path: Path) -> None:
    victims = tmp_path / "victim"
    victims.write_text("secret")
    victims.chmod(0o600)
    (folder / ".lock").hardlink_to(victims)
    with hold_planning_lock(folder):
        pass
    assert stat.S_IMODE(victims.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "x", "process": {"pid": 1, "start_time": 1e999, "boot_id": null, "hostname": "x"}, "rows": {}, "loaded": false}',
        '{"name": "x", "process": {"pid": 1e999, "start_time": 1, "boot_id": null, "hostname": "x"}, "rows": {}, "loaded": false}',
        '{"rows": {"ram": 1e999}}',
        '{"rows": {"ram": ' + "9" * 5000 + "}}",
        '{"rows": ' * 3000 + "1" + "}" * 3000,
        '"' + "x" * (1 << 20) + '"',
        "\ud800",
    ],
)
def test_numbers_and_depths_beyond_all_bounds_are_no_claims(folder: Path, text: str) -> None:
    (folder / "x.claim").write_bytes(text.encode(errors="surrogatepass"))
    assert read_claims(folder) == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "\x1b[2Jgone"},
        {"name": "a\nhint: rm -rf /"},
        {"name": "x" * 65},
        {"rows": {"GPU\x1b[31m": 1}},
        {"rows": {"g" * 101: 1}},
        {"rows": {f"GPU-{number}": 1 for number in range(1000)}},
        {"rows": {RAM: 10**18}},
        {"rows": {RAM: -1}},
        {"rows": {RAM: 1.5}},
        {"rows": {RAM: True}},
    ],
)
def test_what_no_launcher_writes_is_no_claim(folder: Path, changed: dict[str, Any]) -> None:
    (folder / "x.claim").write_text(json.dumps(document(os.getpid())))
    assert len(read_claims(folder)) == 1
    (folder / "x.claim").write_text(json.dumps(document(os.getpid(), **changed)))
    assert read_claims(folder) == ()


def test_twenty_thousand_claims_cost_little(folder: Path) -> None:
    mine(folder)
    text = json.dumps(document(os.getpid()))
    for number in range(20_000):
        (folder / f"{number}.claim").write_text(text)
        if os.geteuid() == 0:
            give(folder / f"{number}.claim")
    began = time.monotonic()
    count_reserved(read_claims(folder))
    assert time.monotonic() - began < _SOON_S


@needs_root
def test_a_strangers_claims_do_not_crowd_out_ours(folder: Path) -> None:
    mine(folder)
    for number in range(200):
        plant(folder, f"0-{number}", document(os.getpid()))
    assert [each.name for each in read_claims(folder)] == ["a"]


@needs_root
def test_a_strangers_claim_counts_for_no_more_than_its_processes_hold(folder: Path) -> None:
    with strangers_process() as pid:
        plant(folder, "65534-x", document(pid, rows={RAM: 1 << 49, "GPU-1": 1 << 49}))
        (theirs,) = read_claims(folder)
        assert theirs.owner == STRANGER
        reserved = count_reserved([theirs])
        assert set(reserved.rows) <= {RAM}
        assert sum(reserved.rows.values()) < 1 << 28  # an interpreter's libraries
        (twice, n_bytes), *_ = reserved.by_claim
        assert count_reserved([twice, replace(twice, name="again")]).rows == {RAM: n_bytes}


@needs_root
def test_a_stranger_who_claims_everything_gets_what_is_held(folder: Path) -> None:
    with strangers_process() as pid:
        plant(folder, "65534-x", document(pid, rows={RAM: 10**18}))
        assert sum(count_reserved(read_claims(folder)).rows.values()) < 1 << 28


@needs_root
def test_a_stranger_cannot_claim_for_a_process_of_ours(folder: Path) -> None:
    plant(folder, "65534-x", document(os.getpid()))
    assert read_claims(folder) == ()
    assert (folder / "65534-x.claim").exists()  # and only our own dead ones are removed


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Here, list[Step]]:
    steps: list[Step] = []
    monkeypatch.setattr("launcher.system.settings.Settings.claims_dir", folder)
    return here_with(steps.append), steps


def mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        window = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    sum(window[at] for at in range(0, len(window), mmap.PAGESIZE))
    return window


@needs_root
def test_the_plan_says_whose_memory_it_left_and_how_to_count_it(
    folder: Path, here: tuple[Here, list[Step]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(bytes(64 << 20))
    with strangers_process(lambda: mapped(weights)) as pid:
        plant(folder, "65534-x", document(pid))
        assert 60 << 20 <= read_reserved(here[0]).rows[RAM] < 1 << 28
        (step,) = here[1]
        assert f"nobody claims 2.0 TiB of memory here for theirs (pid {pid})" in step.text
        assert "LAUNCHER_IGNORE_CLAIMS=nobody" in step.text
        monkeypatch.setenv("LAUNCHER_IGNORE_CLAIMS", "bob,nobody")
        assert read_reserved(here_with()).rows == {}


def test_a_claim_that_cannot_be_written_is_said(
    folder: Path, here: tuple[Here, list[Step]], tmp_path: Path
) -> None:
    folder.rmdir()
    folder.symlink_to(tmp_path)
    claim(here[0], "key", "a", {RAM: 1}, os.getpid())
    assert "other plans may count the memory of a as free" in here[1][0].text
