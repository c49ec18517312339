"""Resumable downloads of URLs against a real server on loopback, with every fault it can have."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from launcher.errors import BadGguf, LauncherError, TryAgain, UsageError
from launcher.models.located import Located, PullOptions, UrlFiles
from launcher.models.transfer.journal import arrived_bytes
from launcher.models.transfer.tuning import Tuning
from launcher.models.url import open_url
from launcher.models.url_download import fetch_url_files, url_folder
from launcher.progress import OnProgress, Step, silent
from tests.range_server import Faults, RangeServer


def fails(url: str, kind: type[LauncherError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        open_url(url)
    assert type(caught.value) is kind or kind is BadGguf
    for word in words:
        assert word in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


QUICK = Tuning(
    span_bytes=1 << 17,
    unit_bytes=1 << 15,
    buffer_bytes=1 << 13,
    patience_s=2,
    attempts=3,
    worthwhile_bytes=1,
    backoff_s=0.001,
)


def fetch(located: Located, folder: Path, progress: OnProgress = silent) -> tuple[Path, ...]:
    assert isinstance(located.files, UrlFiles)
    return fetch_url_files(located, located.files, folder / "store", progress, PullOptions(tuning=QUICK))


def interrupted(server: RangeServer, located: Located, folder: Path) -> Path:
    """A partial file: the server withholds the end of every range."""
    server.faults["tiny-Q8_0.gguf"] = Faults(short_by=10)
    with pytest.raises(TryAgain, match="did not arrive whole"):
        fetch(located, folder)
    server.faults.clear()
    server.requests.clear()
    return folder / "store" / "tiny-Q8_0.gguf.part"


@pytest.mark.parametrize("moved", [False, True], ids=["typed", "redirected"])
def test_a_name_beyond_ascii_is_read_and_fetched(
    server: RangeServer, tiny: str, tmp_path: Path, *, moved: bool
) -> None:
    (content,) = server.files.values()
    server.files["modèle-Q8_0.gguf"] = content
    url = f"{server.url}/été/modèle-Q8_0.gguf"
    if moved:  # as the bytes that some servers send; a header is written as latin-1
        server.faults["tiny-Q8_0.gguf"] = Faults(redirect_to=url.encode().decode("latin-1"))
    (path,) = fetch(open_url(tiny if moved else url), tmp_path)
    assert (path.name, path.read_bytes()) == ("tiny-Q8_0.gguf" if moved else "modèle-Q8_0.gguf", content)


def test_a_redirect_to_no_address_ends_with_one_sentence(
    server: RangeServer, tiny: str, tmp_path: Path
) -> None:
    located = open_url(tiny)
    server.faults["tiny-Q8_0.gguf"] = Faults(redirect_to="http://127.0.0.1:secret/tiny-Q8_0.gguf")
    fails(tiny, TryAgain, "cannot be read")
    with pytest.raises(TryAgain, match=r"redirects to an address that cannot be used$"):
        fetch(located, tmp_path)


def test_a_body_shorter_than_it_says(server: RangeServer, tiny: str, tmp_path: Path) -> None:
    located = open_url(tiny)
    server.faults["tiny-Q8_0.gguf"] = Faults(short_by=10)
    fails(tiny, TryAgain, "broke off after 65526 of 65536 bytes")
    with pytest.raises(TryAgain, match=r"did not arrive whole"):
        fetch(located, tmp_path)
    server.faults.clear()
    (path,) = fetch(located, tmp_path)
    assert path.read_bytes() == server.files[path.name]


def test_a_download_from_another_place_than_was_asked_for(
    server: RangeServer, tiny: str, tmp_path: Path
) -> None:
    located = open_url(tiny)
    server.faults["tiny-Q8_0.gguf"] = Faults(shift=5)
    with pytest.raises(TryAgain, match="changed since its header was read"):
        fetch(located, tmp_path)


def test_a_part_longer_than_the_file_is_now(server: RangeServer, tiny: str, tmp_path: Path) -> None:
    located = open_url(tiny)
    whole = server.files["tiny-Q8_0.gguf"]
    server.faults["tiny-Q8_0.gguf"] = Faults(short_by=10)
    with pytest.raises(TryAgain):
        fetch(located, tmp_path)
    server.faults.clear()
    server.files["tiny-Q8_0.gguf"] = whole[:-100]
    with pytest.raises(TryAgain, match="changed since its header was read"):
        fetch(located, tmp_path)
    server.files["tiny-Q8_0.gguf"] = whole
    assert fetch(located, tmp_path)[0].read_bytes() == whole


def test_a_server_that_sends_more_than_the_file(server: RangeServer, tiny: str, tmp_path: Path) -> None:
    located = open_url(tiny)
    server.faults["tiny-Q8_0.gguf"] = Faults(short_by=-40)
    server.files["tiny-Q8_0.gguf"] += b""
    (path,) = fetch(located, tmp_path)
    assert path.stat().st_size == located.model.size_bytes


def test_a_new_signature_of_the_same_file_fetches_nothing_and_another_content_does(
    server: RangeServer, tiny: str, tmp_path: Path
) -> None:
    (name,) = server.files
    first, second = open_url(f"{tiny}?sig=1"), open_url(f"{tiny}?sig=2")
    assert isinstance(first.files, UrlFiles)
    assert isinstance(second.files, UrlFiles)
    assert url_folder(tmp_path, first.files) == url_folder(tmp_path, second.files)
    paths = fetch(first, tmp_path)
    server.requests.clear()
    assert (fetch(second, tmp_path), server.requests) == (paths, [])
    before = server.files[name]
    server.files[name] = server.files[name].replace(
        b"output_norm", b"output_morn"
    )  # another model of the same size
    assert fetch(open_url(tiny), tmp_path)[0].read_bytes() == server.files[name] != before


def test_all_shards_are_fetched_into_one_folder(
    server: RangeServer, split: tuple[str, ...], tmp_path: Path
) -> None:
    located, steps = open_url(split[0]), list[Step]()
    paths = fetch(located, tmp_path / "models", steps.append)
    assert [path.read_bytes() for path in paths] == [server.files[path.name] for path in paths]
    assert len({path.parent for path in paths}) == 1
    done = [step.done for step in steps if not step.file]
    assert (done[-1], sorted(done)) == (located.model.size_bytes, done)
    assert not list(paths[0].parent.glob("*.part*"))
    asked = len(server.requests)
    assert fetch(located, tmp_path / "models") == paths
    assert len(server.requests) == asked


def test_a_download_goes_on_where_it_broke_off(server: RangeServer, tiny: str, tmp_path: Path) -> None:
    located = open_url(tiny)
    assert arrived_bytes(interrupted(server, located, tmp_path)) > 0
    sent = server.sent_bytes
    (path,) = fetch(located, tmp_path)
    assert path.read_bytes() == server.files["tiny-Q8_0.gguf"]
    assert server.sent_bytes - sent < located.model.size_bytes
    assert not list(tmp_path.rglob("*.part*"))


def test_a_part_of_another_version_is_begun_anew(server: RangeServer, tiny: str, tmp_path: Path) -> None:
    located = open_url(tiny)
    interrupted(server, located, tmp_path)
    server.faults["tiny-Q8_0.gguf"] = Faults(etags=['"v2"'])
    sent = server.sent_bytes
    (path,) = fetch(located, tmp_path)
    assert path.read_bytes() == server.files["tiny-Q8_0.gguf"]
    assert server.sent_bytes - sent >= located.model.size_bytes
    assert not list(tmp_path.rglob("*.part*"))


def test_a_version_that_changes_meanwhile_is_refused(server: RangeServer, tiny: str, tmp_path: Path) -> None:
    located = open_url(tiny)
    server.faults["tiny-Q8_0.gguf"] = Faults(etags=[f'"v{n}"' for n in range(1000)])
    with pytest.raises(TryAgain, match="changed since its header was read"):
        fetch(located, tmp_path)


def test_a_part_of_another_size_is_not_believed(server: RangeServer, tiny: str, tmp_path: Path) -> None:
    located = open_url(tiny)
    part = interrupted(server, located, tmp_path)
    part.write_bytes(bytes(located.model.size_bytes + 5))
    (path,) = fetch(located, tmp_path)
    assert path.read_bytes() == server.files["tiny-Q8_0.gguf"]


@pytest.mark.parametrize("change", ["longer", "shorter", "other"])
def test_a_file_that_changed_since_it_was_planned(
    server: RangeServer, tiny: str, tmp_path: Path, change: str
) -> None:
    located = open_url(tiny)
    content = server.files["tiny-Q8_0.gguf"]
    server.files["tiny-Q8_0.gguf"] = {
        "longer": content + bytes(32),
        "shorter": content[:-32],
        "other": bytes(len(content)),
    }[change]
    with pytest.raises(TryAgain, match="changed since its header was read"):
        fetch(located, tmp_path)
    assert not [path for path in tmp_path.rglob("*.gguf") if path.parent != tmp_path]


def test_a_file_that_became_empty(server: RangeServer, tiny: str, tmp_path: Path) -> None:
    located = open_url(tiny)
    server.files["tiny-Q8_0.gguf"] = b""
    with pytest.raises(TryAgain, match="changed since its header was read"):
        fetch(located, tmp_path)


def test_a_full_disk_is_seen_before(
    server: RangeServer, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    located = open_url(tiny)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    asked = len(server.requests)
    with pytest.raises(TryAgain, match="which has 1000 B free"):
        fetch(located, tmp_path)
    assert len(server.requests) == asked


def test_a_folder_that_cannot_be_made(tiny: str, tmp_path: Path) -> None:
    located = open_url(tiny)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file, and a folder is needed"):
        fetch(located, tmp_path / "file")
