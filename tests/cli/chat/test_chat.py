"""A conversation: its commands, texts in any encoding, answers that go round in circles."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from launcher.cli.chat import piped, requests
from launcher.cli.chat.answer import Answer, stats_line, why_it_ended
from launcher.cli.chat.editor import _is_private
from launcher.cli.chat.loops import is_looping
from launcher.cli.chat.markdown import split_blocks
from launcher.cli.chat.requests import Asked, question_message, read_asked
from launcher.cli.chat.slash import COMMANDS, HELP, Conversation, obey
from launcher.cli.options.serving import AskOptions
from launcher.errors import UsageError
from launcher.models.profiles.folders import read_model_profiles
from launcher.models.profiles.profile import pick_profile
from launcher.system.settings import profiles_dir

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("I am a loyal LAPD. " * 13, True),
        ("Well. " + "la " * 90, True),
        ("once upon a time " * 4, False),  # a refrain
        ("=" * 100, False),  # a ruler
        (" " * 3000, False),
        ("".join(f"{n}. item\n" for n in range(300)), False),
        ("a long passage that says something, " * 8 + "and then it ends", False),
    ],
)
def test_a_text_that_only_repeats_itself(text: str, loops: bool) -> None:
    assert is_looping(text) is loops


@pytest.mark.parametrize(
    ("data", "text"), [("café".encode(), "café"), (b"caf\xe9", "café"), (b"\xef\xbb\xbfx", "x"), (b"", "")]
)
def test_text_of_any_encoding_is_read(data: bytes, text: str) -> None:
    assert piped.decode(data) == text
    assert piped.clean_argument(data.decode("utf-8", "surrogateescape")) == text


def test_blocks_end_at_empty_lines_and_not_inside_code() -> None:
    assert split_blocks("one\n\ntwo") == ("one\n\n", "two")
    code = "```python\nx = 1\n\ny = 2\n"
    assert split_blocks(code) == ("", code)
    assert split_blocks(code + "```\n\nend") == (code + "```\n\n", "end")


def test_every_command_is_in_the_help_and_is_obeyed_or_refused_with_a_hint(tmp_path: Path) -> None:
    assert all(command in HELP for command in COMMANDS if command != "/help")
    talk = Conversation(Asked(), talk=[{"role": "user", "content": "hé"}])
    assert obey(talk, "/help") == HELP
    obey(talk, "/system be brief")
    obey(talk, "/set temperature 0.5")
    assert talk.asked.messages([])[0]["content"] == "be brief"
    assert talk.asked.fields == {"temperature": 0.5}
    obey(talk, f"/save {tmp_path / 'talk.md'}")
    assert "hé" in (tmp_path / "talk.md").read_text(encoding="utf-8")
    obey(talk, "/clear")
    assert talk.talk == []
    obey(talk, "/bye")
    assert talk.is_over
    for bad in ("/nope", "/set", "/set seed x", "/set temperature nan", "/mode x", "/save", "/image /none"):
        with pytest.raises(UsageError) as caught:
            obey(talk, bad)
        assert caught.value.hint


def test_a_mode_of_the_profile_is_asked_for_in_the_request() -> None:
    profile = pick_profile(read_model_profiles((profiles_dir() / "models",)), "kimi-k2.5")
    talk = Conversation(Asked(), profile)
    names = obey(talk, "/mode").split(", ")
    assert len(names) > 1
    obey(talk, f"/mode {names[-1]}")
    assert talk.asked.fields is not None
    assert talk.asked.fields["temperature"] == profile.modes[-1].sampling.temperature
    assert "chat_template_kwargs" in talk.asked.fields


def test_images_are_sent_as_they_are_and_other_files_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    picture, text = question_message("what is it?", [tmp_path / "a.png"])["content"]
    assert picture["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert text == {"type": "text", "text": "what is it?"}
    (tmp_path / "b").write_bytes(b"root:x")
    with pytest.raises(UsageError, match="no image"):
        requests.image_url(tmp_path / "b")


def test_what_was_typed_becomes_fields_of_the_request(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"type": "object"}')
    for schema in ('{"type": "object"}', str(tmp_path / "s.json")):
        fields = read_asked(AskOptions(temperature=0.0, seed=7, json_schema=schema)).fields
        assert fields is not None
        assert (fields["temperature"], fields["seed"]) == (0.0, 7)
        assert fields["response_format"]["json_schema"]["schema"] == {"type": "object"}
    for bad in ("{", "[1]", "/none", "{" * 100_000):
        with pytest.raises(UsageError):
            read_asked(AskOptions(json_schema=bad))


def test_the_history_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "state" / "chat_history"
    assert _is_private(file)
    file.chmod(0o644)
    assert _is_private(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(file)
    assert not _is_private(tmp_path / "link")


def test_the_line_below_an_answer_says_speed_and_context() -> None:
    answer = Answer(tokens_per_s=38.64, first_s=0.42, context_tokens=512)
    assert stats_line(answer, 8192) == "38.6 tokens/s, the first after 0.4 s, 512 of 8192 tokens of context"
    assert stats_line(Answer(), None) == ""
    assert why_it_ended(Answer(finish_reason="stop")) is None
    assert "repeating" in str(why_it_ended(Answer(finish_reason="loop")))


@pytest.mark.parametrize("name", ["~nobody-of-that-name/x", "a\0b", "\udcff", "a\x1b[2J"])
@pytest.mark.parametrize("command", ["/save", "/image"])
def test_names_that_no_file_has_do_not_end_the_conversation(command: str, name: str) -> None:
    with pytest.raises(UsageError):
        obey(Conversation(Asked()), f"{command} {name}")


def test_a_pipe_in_the_place_of_the_history_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "history")
    assert not _is_private(tmp_path / "history")
