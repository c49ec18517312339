"""Speed against depth as a picture: what grows goes up, and no two names are over each other."""

from __future__ import annotations

import itertools
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from launcher.cli.show.depth_picture import Curve, draw_curves
from tests.cli.shell import launcher
from tests.cli.show.test_svg import SPACE


@pytest.mark.parametrize("count", [1, 2, 12])
def test_every_curve_is_drawn_and_named(count: int) -> None:
    curves = [
        Curve(name=f"machine {number}", points=((0, 50.0), (1024, 40.0 + number), (4096, 30.0)))
        for number in range(count)
    ]
    root = ET.fromstring(draw_curves(curves, "a <title>"))
    names = [each for each in root.iter(f"{SPACE}text") if (each.text or "").startswith("machine")]
    assert len(names) == count
    places = sorted(float(each.get("y", "")) for each in names)
    assert all(b - a >= 16 for a, b in itertools.pairwise(places))
    first = [line for line in root.iter(f"{SPACE}line") if line.get("class") == "s0"]
    heights = [float(first[0].get("y1", "")), *(float(line.get("y2", "")) for line in first)]
    assert len(first) == 2 * -(-count // 8)
    assert heights[0] < heights[2]  # SVG counts down: slower is lower


def test_machines_are_drawn(tmp_path: Path) -> None:
    file = tmp_path / "machines.svg"
    words = ("plan", "kimi-k2.5", "--compare", "8xh200-141g", "--compare", "laptop-16g", "--offline")
    done = launcher(*words, "--svg", str(file))
    assert f"drawn in {file}" in done.stderr
    texts = [each.text or "" for each in ET.parse(file).getroot().iter(f"{SPACE}text")]
    assert sum(text.startswith("8xh200-141g  ") for text in texts) == 1
    assert not any(text.startswith("laptop-16g") for text in texts)  # it does not fit there
