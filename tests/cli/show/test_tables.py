"""Tables at the width of a terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from launcher.cli.show import tables


def test_at_80_columns_a_url_stays_whole(capsys: pytest.CaptureFixture[str]) -> None:
    url = "http://127.0.0.1:49449/v1"
    row = ("qwen3-30b-a3b-instruct-2507-q4_k_m", "degraded", url, "12m", "746.1 MiB", "123.4")
    headers = ("name", "state", "url", "up", "resident", "tok/s")
    table = tables.grid(headers, [row], right=frozenset(headers[3:]), whole=frozenset(headers[1:]))
    Console(width=80).print(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert sum(url in line for line in lines) == 1
    assert any("746.1 MiB" in line for line in lines)


@pytest.mark.parametrize("width", [30, 50, 80])
def test_first_columns_are_whole_and_the_others_below_them_where_there_is_no_room(width: int) -> None:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(
            tables.Roomy(headers=("at", "name", "x"), rows=[("16:02", "a-name-to-type", "y" * 20)], first=2)
        )
    text = captured.get()
    assert ("16:02  a-name-to-type\n    yyyy" in text) == (width == 30)
    assert "a-name-to-type" in text
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
