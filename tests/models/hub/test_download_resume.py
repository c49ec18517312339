"""Downloads that are ended, at any moment and in any way, and downloads that meet."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from launcher.errors import TryAgain
from launcher.models.hub.cache import HubCache
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.located import Located, PullOptions
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import HubStore
from launcher.models.transfer.journal import arrived_bytes, journal_path, read_journal
from launcher.progress import Step
from launcher.system.locks import exclusive
from tests.fakes.hub import FakeHub, Fault, Seen
from tests.moe_shards import moe_shards
from tests.pulling import QUICK, UNIT, start_pull

REPO = "user/repo"
SHARDS = moe_shards("big-UD-Q4_K_XL")
TOTAL = sum(map(len, SHARDS.values()))
OPTIONS = PullOptions(tuning=QUICK)
ONE_LINE = PullOptions(tuning=replace(QUICK, connections=1))
"""With one connection nothing is split: what is asked for is what is fetched."""


@pytest.fixture
def located(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> Located:
    hub.publish(REPO, SHARDS)
    found = open_repo(ModelRef(kind=RefKind.HUB, name=REPO), endpoint=endpoint, store=store)
    hub.seen.clear()
    return found


def asked_bytes(seen: list[Seen], shards: dict[str, bytes] = SHARDS, *, after_link: int = 0) -> int:
    """Return how many bytes the storage host was asked for, by signed links after number `after_link`."""
    # later links only: what a killed process had sent may still be on its way to the server
    spans = [range_of(one, shards) for one in seen if one.host == "storage" and link_of(one) > after_link]
    return sum(end - begin for begin, end in spans)


def parts(endpoint: Endpoint) -> list[Path]:
    return sorted(endpoint.cache_dir.glob("models--*/blobs/*.part"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_an_ended_pull_leaves_what_has_arrived(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, how: signal.Signals
) -> None:
    """Stalled in the middle of the second shard, with the others whole."""
    hub.faults.append(Fault(stall_after=UNIT + 100, match="00002-of-00003"))
    process = start_pull(endpoint, store, f"{REPO}:UD-Q4_K_XL", "20")
    while (
        len(list(endpoint.cache_dir.glob("models--*/snapshots/*/*"))) < 2
        or sum(map(arrived_bytes, parts(endpoint))) < 3 * UNIT
    ):
        assert process.poll() is None
    process.send_signal(how)
    _, said = process.communicate(timeout=20)
    assert ("KeyboardInterrupt" in said) == (how == signal.SIGINT)
    (part,) = parts(endpoint)
    kept = arrived_bytes(part)
    assert kept >= 3 * UNIT
    hub.faults.clear()
    hub.seen.clear()
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=ONE_LINE)
    assert list(SHARDS.values()) == [path.read_bytes() for path in paths]
    assert {"00002" in seen.path for seen in hub.asked("storage")} == {True}
    assert asked_bytes(hub.seen) == len(SHARDS["big-UD-Q4_K_XL-00002-of-00003.gguf"]) - kept
    assert parts(endpoint) == []


def test_kill_9_at_20_random_moments_costs_a_unit_per_connection(
    hub: FakeHub, endpoint: Endpoint, store: HubStore
) -> None:
    """After each kill, what was written and is not vouched for is less than a unit per connection.

    It is wiped here, so nothing can rely on it. What is vouched for is never asked for again, by any of the
    pulls: the server's log says so. In the end exactly what nothing vouches for is asked for, once, and every
    byte is right.
    """
    dice, n_kills = random.Random(5), 20
    shards = moe_shards("large-Q8_0", n_expert=320)
    total = sum(map(len, shards.values()))
    hub.publish(REPO, shards)
    hub.faults.append(Fault(bytes_per_s=4_000_000))
    begun: list[
        tuple[int, dict[str, set[int]]]
    ] = []  # signed links given out, and what was here, at each start
    for left in range(n_kills, 0, -1):
        begun.append((hub.links_given, vouched_units(endpoint)))
        here = here_bytes(endpoint)
        target = here + dice.randint(
            0, 2 * (total - here) // (left + 2)
        )  # over all of the pull, never to its end
        process = start_pull(endpoint, store, f"{REPO}:Q8_0")
        while here_bytes(endpoint) < target:
            assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert sum(map(wipe_unvouched, parts(endpoint))) <= QUICK.connections * UNIT
    kept = here_bytes(endpoint)
    hub.faults.clear()
    links = hub.links_given
    begun.append((links, vouched_units(endpoint)))
    located = open_repo(ModelRef(kind=RefKind.HUB, name=REPO), endpoint=endpoint, store=store)
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=ONE_LINE)
    assert list(shards.values()) == [path.read_bytes() for path in paths]
    assert asked_bytes(hub.seen, shards, after_link=links) == total - kept
    ends = [*(before for before, _ in begun[1:]), hub.links_given]
    for (first, vouched), last in zip(begun, ends, strict=True):
        asked = asked_units(hub.seen, shards, links=range(first + 1, last + 1))
        assert not [sha256 for sha256, units in asked.items() if units & vouched.get(sha256, set())]
    assert sum(bool(vouched) for _, vouched in begun) > n_kills // 2
    assert kept > total // 2


def vouched_units(endpoint: Endpoint) -> dict[str, set[int]]:
    """Return the units that need not be fetched, by the sha256 of their file."""
    blobs = [blob for blob in endpoint.cache_dir.glob("models--*/blobs/*") if len(blob.name) == 64]
    whole = {blob.name: set(range(-(-blob.stat().st_size // UNIT))) for blob in blobs}
    return whole | {part.stem: set(read_journal(journal_path(part), {}).whole) for part in parts(endpoint)}


def asked_units(seen: list[Seen], shards: dict[str, bytes], *, links: range) -> dict[str, set[int]]:
    """The units that requests by these signed links touched, by the sha256 of their file."""
    asked: dict[str, set[int]] = {}
    for one in seen:
        if one.host == "storage" and link_of(one) in links:
            sha256 = one.path.strip("/").partition("?")[0]
            begin, end = range_of(one, shards)
            asked.setdefault(sha256, set()).update(range(begin // UNIT, -(-end // UNIT)))
    return asked


def link_of(seen: Seen) -> int:
    """The number of the signed link that a request used."""
    return int(seen.path.rpartition("sig=link")[2])


def range_of(seen: Seen, shards: dict[str, bytes]) -> tuple[int, int]:
    """The bytes [begin, end) that were asked for; without a range the whole shard."""
    begin, _, last = (seen.range or "").removeprefix("bytes=").partition("-")
    name = unquote(seen.path.partition("name=")[2].partition("&")[0])
    return (int(begin), int(last) + 1) if last else (0, len(shards[name]))


def here_bytes(endpoint: Endpoint) -> int:
    """What need not be fetched: whole files, and what the journals of partial ones vouch for."""
    return whole_bytes(endpoint) + sum(map(arrived_bytes, parts(endpoint)))


def wipe_unvouched(part: Path) -> int:
    """Zero what the journal does not vouch for; return how many bytes other than zero had been there."""
    whole, lost = read_journal(journal_path(part), {}).whole, 0
    with part.open("r+b") as file:
        for unit in set(range(-(-part.stat().st_size // UNIT))) - whole:
            file.seek(unit * UNIT)
            content = file.read(UNIT)
            lost += len(content) - content.count(0)
            file.seek(unit * UNIT)
            file.write(bytes(len(content)))
    return lost


def whole_bytes(endpoint: Endpoint) -> int:
    blobs = endpoint.cache_dir.glob("models--*/blobs/*")
    return sum(blob.stat().st_size for blob in blobs if len(blob.name) == 64)


def test_a_pull_waits_for_another_ones_file_and_takes_it(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    """Two processes, one file each way: every byte is fetched once."""
    hub.faults.append(Fault(bytes_per_s=2_000_000))
    first = start_pull(endpoint, store, f"{REPO}:UD-Q4_K_XL")
    second = start_pull(endpoint, store, f"{REPO}:UD-Q4_K_XL")
    ended = [process.communicate(timeout=60) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], ended
    assert ended[0][0] == ended[1][0]
    assert asked_bytes(hub.seen) < TOTAL * 3 // 2  # spans that were split have been asked for whole


def test_a_dead_ones_lock_is_taken_over_and_a_live_one_is_said(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    shard = located.model.shards[1]
    assert located.files
    lock = HubCache(endpoint, located.files).lock_path(shard)  # type: ignore[arg-type]
    script = (
        "from launcher.system.locks import exclusive\nfrom pathlib import Path\nimport sys\n"
        f"with exclusive(Path({str(lock)!r})):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [os.sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    def kill(step: Step) -> None:
        if "another download" in step.text:
            holder.kill()
            holder.wait()

    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS, on_progress=kill)
    assert (holder.returncode, list(SHARDS.values())) == (-9, [path.read_bytes() for path in paths])
    holder.communicate()


def test_what_another_one_brought_meanwhile_is_not_fetched(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    """The lock of one shard is held while somebody else fetches it."""
    other = replace(endpoint, cache_dir=endpoint.cache_dir.parent / "other")
    (source, *_) = fetch_hub_files(located, endpoint=other, store=store, options=OPTIONS)
    hub.seen.clear()
    assert located.files
    place = HubCache(endpoint, located.files)  # type: ignore[arg-type]
    first = located.model.shards[0]
    held = exclusive(place.lock_path(first))
    held.__enter__()

    def bring(step: Step) -> None:
        if "another download" in step.text:
            place.link(first, source)
            held.__exit__(None, None, None)

    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS, on_progress=bring)
    assert list(SHARDS.values()) == [path.read_bytes() for path in paths]
    assert not hub.asked("storage", match="00001-of")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """4 MiB: the model fits, little else does."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system needs root and mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_too_small_is_refused_before_the_first_byte(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, small_disk: Path
) -> None:
    (small_disk / "other").write_bytes(bytes(1 << 20))
    there = replace(endpoint, cache_dir=small_disk / "hub")
    with pytest.raises(TryAgain, match=r"needs 3\.5 MiB .* has 3\.0 MiB free") as caught:
        fetch_hub_files(located, endpoint=there, store=store, options=OPTIONS)
    assert (caught.value.hint or "").startswith("free 51")
    assert hub.seen == []


def test_a_disk_that_fills_in_the_middle_keeps_what_is_there(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, small_disk: Path
) -> None:
    there = replace(endpoint, cache_dir=small_disk / "hub")
    one_at_a_time = PullOptions(tuning=replace(QUICK, shards_at_once=1))
    filler = small_disk / "other"

    def fill(seen: Seen) -> None:
        if seen.host == "storage" and not filler.exists():
            filler.write_bytes(bytes(1 << 20))

    hub.on_request = fill
    with pytest.raises(TryAgain, match="ran full; what has arrived is kept"):
        fetch_hub_files(located, endpoint=there, store=store, options=one_at_a_time)
    filler.unlink()
    hub.on_request = lambda _: None
    hub.seen.clear()
    paths = fetch_hub_files(located, endpoint=there, store=store, options=one_at_a_time)
    assert list(SHARDS.values()) == [path.read_bytes() for path in paths]
    assert not hub.asked("storage", match="00001-of")
    assert asked_bytes(hub.seen) < TOTAL


def test_partial_files_count_as_room_that_is_taken(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, small_disk: Path
) -> None:
    """A pull that was ended has its file's room already: what is left has to fit, not all of it."""
    there = replace(endpoint, cache_dir=small_disk / "hub")

    def stop(step: Step) -> None:
        if step.file and step.done > UNIT:
            raise KeyboardInterrupt

    hub.faults.append(Fault(bytes_per_s=1_000_000))
    with pytest.raises(KeyboardInterrupt):
        fetch_hub_files(located, endpoint=there, store=store, options=OPTIONS, on_progress=stop)
    hub.faults.clear()
    assert len(parts(there)) == 3
    paths = fetch_hub_files(located, endpoint=there, store=store, options=OPTIONS)
    assert list(SHARDS.values()) == [path.read_bytes() for path in paths]
