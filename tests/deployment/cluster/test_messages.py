"""What a rank and its head say: whatever a peer sends, a message or nothing comes of it."""

from __future__ import annotations

import pytest

from launcher.deployment.cluster.messages import LineBuffer, Message, Word, format_message, read_message


def test_a_message_survives_its_line() -> None:
    assert read_message(format_message(Word.LOST, "it ended")) == Message(Word.LOST, "it ended")


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b'{"say": "hello"}', b'{"say": 1}', b"\xff\xfe", b"[" * 4000, b'{"why": "x"}']
)
def test_anything_else_is_nothing(line: bytes) -> None:
    assert read_message(line) is None


def test_no_escape_sequence_of_a_peer_is_said() -> None:
    message = read_message(format_message(Word.LOST, "\x1b[31mred" + "x" * 5000))
    assert message is not None
    assert message.why.isprintable()
    assert len(message.why) < 310


def test_lines_come_whole_in_whatever_pieces_and_long_ones_are_dropped() -> None:
    lines = LineBuffer()
    assert lines.add(b'{"say": ') == []
    assert lines.add(b'"well"}\n\n{"say"') == [b'{"say": "well"}']
    assert lines.add(b"x" * 100_000) == []
    assert lines.add(b"x\nok\n") == [b"ok"]
