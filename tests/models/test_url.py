"""Ranged reads of headers against a real server on loopback, with every fault it can have."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import BadGguf, LauncherError, NotAllowed, NotFound, TryAgain, UsageError
from launcher.models.located import UrlFiles
from launcher.models.ranged_headers import SLACK_BYTES
from launcher.models.url import file_name, open_url, shard_urls
from launcher.models.url_secrets import strip_secrets
from tests.make_gguf import make_gguf
from tests.pulling import QUICK_READS
from tests.range_server import Faults, RangeServer


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
        open_url(url, QUICK_READS)
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
    server.faults["tiny-Q8_0.gguf"] = Faults(break_off_at=1000, breaks=QUICK_READS.attempts - 1)
    assert open_url(tiny, QUICK_READS).model.model_id == "tiny-Q8_0"
    server.faults["tiny-Q8_0.gguf"] = Faults(break_off_at=1000, breaks=QUICK_READS.attempts)
    fails(tiny, TryAgain, "tiny-Q8_0.gguf", "it broke off after 1000 of")


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


def test_a_header_that_was_damaged_once_is_fetched_once_more(server: RangeServer, tiny: str) -> None:
    server.faults["tiny-Q8_0.gguf"] = Faults(flips=1)
    assert open_url(tiny, QUICK_READS).model.model_id == "tiny-Q8_0"
    assert len(server.requests) == 2
    server.faults["tiny-Q8_0.gguf"] = Faults(flips=2)
    fails(tiny, BadGguf, "tiny-Q8_0.gguf")


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
