"""Ranged reads and resumable downloads against a real server on loopback, with every fault it can have."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import BadGguf, LauncherError, NotAllowed, NotFound, TryAgain, UsageError
from launcher.models.located import Located, PullOptions, UrlFiles
from launcher.models.ranged_headers import SLACK_BYTES
from launcher.models.transfer.journal import arrived_bytes
from launcher.models.transfer.tuning import Tuning
from launcher.models.url import file_name, open_url, shard_urls
from launcher.models.url_download import fetch_url_files, url_folder
from launcher.models.url_secrets import strip_secrets
from launcher.progress import OnProgress, Step, silent
from tests.make_gguf import make_gguf
from tests.range_server import Faults, RangeServer, serve_ranges


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with serve_ranges() as running:
        yield running


@pytest.fixture
def tiny(server: RangeServer, tmp_path: Path) -> str:
    (path,) = make_gguf(tmp_path / "tiny-Q8_0.gguf", "llama")
    server.files[path.name] = path.read_bytes()
    return f"{server.url}/models/{path.name}"


@pytest.fixture
def split(server: RangeServer, tmp_path: Path) -> tuple[str, ...]:
    paths = make_gguf(tmp_path / "split-Q8_0.gguf", "llama", splits=3)
    server.files |= {path.name: path.read_bytes() for path in paths}
    return tuple(f"{server.url}/{path.name}" for path in paths)


def test_a_header_is_read_by_ranges_only(server: RangeServer, tiny: str) -> None:
    located = open_url(tiny)
    (name,) = server.files
    assert located.model.model_id == "tiny-Q8_0"
    assert located.model.source == tiny
    assert located.model.size_bytes == len(server.files[name])
    assert located.files == UrlFiles(urls=(tiny,))
    assert server.files[name].startswith(located.raw_headers[0])
    assert server.sent_bytes <= len(located.raw_headers[0]) + SLACK_BYTES
    assert all(asked is not None for _, asked in server.requests)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_any_shards_url_opens_the_set(server: RangeServer, split: tuple[str, ...], index: int) -> None:
    located = open_url(split[index] + "?token=secret")
    assert located.files == UrlFiles(urls=tuple(url + "?token=secret" for url in split))
    assert located.model.source == split[0]
    assert [shard.name for shard in located.model.shards] == [url.rpartition("/")[2] for url in split]


def test_a_redirect_is_followed(server: RangeServer, tiny: str) -> None:
    server.faults["moved-Q8_0.gguf"] = Faults(redirect_to=tiny)
    assert open_url(f"{server.url}/moved-Q8_0.gguf").model.model_id == "moved-Q8_0"


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


def test_secrets_are_used_and_not_shown(server: RangeServer, tiny: str) -> None:
    secret = tiny.replace("http://", "http://me:password@") + "?sig=secret#part"
    located = open_url(secret)
    assert located.model.source == tiny
    assert server.headers[0]["Authorization"].startswith("Basic ")
    server.files.clear()
    with pytest.raises(NotFound) as caught:
        open_url(secret)
    assert "secret" not in caught.value.message
    assert "password" not in caught.value.message


def fails(url: str, kind: type[LauncherError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        open_url(url)
    assert type(caught.value) is kind or kind is BadGguf
    for word in words:
        assert word in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, NotAllowed),
        (403, NotAllowed),
        (404, NotFound),
        (410, NotFound),
        (400, UsageError),
        (429, TryAgain),
        (500, TryAgain),
        (503, TryAgain),
    ],
)
def test_what_a_server_answers(
    server: RangeServer, tiny: str, status: int, kind: type[LauncherError]
) -> None:
    server.faults["tiny-Q8_0.gguf"] = Faults(status=status)
    fails(tiny, kind, str(status), "/models/tiny-Q8_0.gguf")


def test_a_missing_sibling_is_named(server: RangeServer, split: tuple[str, ...]) -> None:
    del server.files["split-Q8_0-00002-of-00003.gguf"]
    fails(split[0], NotFound, "split-Q8_0-00002-of-00003.gguf")


def test_a_server_that_ignores_ranges_is_not_read(server: RangeServer) -> None:
    server.files["big.gguf"] = b"GGUF" + bytes(64 << 20)
    server.faults["big.gguf"] = Faults(ignore_ranges=True)
    fails(f"{server.url}/big.gguf", UsageError, "ignores ranges")
    assert server.sent_bytes < 64 << 20


def test_a_range_that_does_not_say_what_it_is(server: RangeServer, tiny: str) -> None:
    server.faults["tiny-Q8_0.gguf"] = Faults(no_content_range=True)
    fails(tiny, UsageError, "without saying which bytes")


def test_another_range_than_was_asked_for(server: RangeServer, tiny: str) -> None:
    server.faults["tiny-Q8_0.gguf"] = Faults(shift=5)
    fails(tiny, TryAgain, "changed while it was read")


def test_a_body_that_breaks_off(server: RangeServer, tiny: str) -> None:
    server.faults["tiny-Q8_0.gguf"] = Faults(break_off_at=1000)
    fails(tiny, TryAgain, "tiny-Q8_0.gguf")


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


def test_a_file_that_changes_while_it_is_read(server: RangeServer, tmp_path: Path) -> None:
    (path,) = make_gguf(
        tmp_path / "k.gguf", "llama", vocabulary="bpe", numbers={"n_vocab": 20_000}, hollow=True
    )
    server.files["k.gguf"] = path.read_bytes()
    server.faults["k.gguf"] = Faults(etags=['"v1"', '"v2"'])
    fails(f"{server.url}/k.gguf", TryAgain, "changed while it was read")


def test_files_that_are_no_models(server: RangeServer) -> None:
    server.files |= {
        "page.gguf": b"<!DOCTYPE html><html></html>",
        "none.gguf": b"",
        "short.gguf": b"GGUF\x03",
    }
    fails(f"{server.url}/page.gguf", BadGguf, "a web page")
    fails(f"{server.url}/none.gguf", BadGguf, "is empty")
    fails(f"{server.url}/short.gguf", BadGguf, "it has 5 bytes")


def test_nobody_listens(tiny: str) -> None:
    fails("http://127.0.0.1:9/a.gguf", TryAgain, "cannot be read")


def test_addresses_that_are_none() -> None:
    fails("ftp://127.0.0.1/a.gguf", UsageError, "is not an address that can be read")
    fails("http://127.0.0.1/%2e%2e", UsageError, "the file name in")


def test_names_and_siblings_of_urls() -> None:
    url = "https://u:p@h/d/My%20Model-00002-of-00003.gguf?x=1#f"
    assert shard_urls(url)[2] == "https://u:p@h/d/My%20Model-00003-of-00003.gguf?x=1#f"
    assert file_name(url) == "My Model-00002-of-00003.gguf"
    assert strip_secrets(url) == "https://h/d/My%20Model-00002-of-00003.gguf"


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


def interrupted(server: RangeServer, located: Located, folder: Path) -> Path:
    """A partial file: the server withholds the end of every range."""
    server.faults["tiny-Q8_0.gguf"] = Faults(short_by=10)
    with pytest.raises(TryAgain, match="did not arrive whole"):
        fetch(located, folder)
    server.faults.clear()
    server.requests.clear()
    return folder / "store" / "tiny-Q8_0.gguf.part"


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
