"""Pictures are XML that every browser reads, whatever is written in them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from launcher.cli.show import svg
from tests.cli.shell import launcher

SPACE = "{http://www.w3.org/2000/svg}"


def test_words_of_others_are_no_markup() -> None:
    nasty = "<script>&\"'\x1b[31m\x00]]>"
    root = ET.fromstring(svg.document(10, 10, [svg.words(1, 2, nasty)], nasty))
    (text,) = root.iter(f"{SPACE}text")
    assert text.text == "<script>&\"'?[31m?]]>"
    assert not list(root.iter("script"))


def test_a_plan_is_drawn_with_each_memory_and_the_choice_marked(tmp_path: Path) -> None:
    file = tmp_path / "plan.svg"
    line = ("plan", "kimi-k2.5", "--machine", "8xh200-141g", "--offline", "--svg", str(file))
    done = launcher(*line)
    assert f"drawn in {file}" in done.stderr
    root = ET.parse(file).getroot()
    texts = [each.text or "" for each in root.iter(f"{SPACE}text")]
    assert [text for text in texts if text.startswith("CUDA")] == [f"CUDA{i} (H200)" for i in range(5)]
    assert "RAM" in texts
    marked = [each for each in root.iter(f"{SPACE}circle") if each.get("class") == "chosen"]
    assert len(marked) == 1
    bars = [each for each in root.iter(f"{SPACE}rect") if each.get("class") == "weights"]
    assert len(bars) == 6 + 1  # and the legend
    assert file.stat().st_size < 10_000


def test_a_picture_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    line = ("plan", "qwen3-0.6b", "--gpu", "3090", "--ram", "8G", "--offline")
    (tmp_path / "file").touch()
    done = launcher(*line, "--svg", str(tmp_path / "file" / "x.svg"))
    assert done.returncode == 2
    assert "x.svg cannot be written: " in done.stderr
