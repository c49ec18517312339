"""Draw in SVG: rectangles, lines, dots and words, for light and dark pages. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from launcher.units import printable

# Class names of what is drawn; readers of a page in the dark get light words on a dark ground.
_STYLE = """
svg { background: #fff; font: 13px ui-monospace, Menlo, Consolas, monospace }
text { fill: #1f2328; white-space: pre } .dim { fill: #656d76 } .bold { font-weight: 700 }
.weights { fill: #4878d0 } .cache { fill: #6acc64 } .compute { fill: #ee9a3a } .other { fill: #956cb4 }
.free { fill: #e7eaee } .over { fill: #d1242f } .line { stroke: #8c959f } .dot { fill: #8c959f }
.chosen { fill: #d1242f } .grid { stroke: #8c959f; stroke-opacity: 0.3 }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117 } text { fill: #e6edf3 } .dim { fill: #8d96a0 } .free { fill: #2a3038 } }
"""

_SERIES = ("#4878d0", "#d1242f", "#2f9e44", "#e8890c", "#956cb4", "#8c613c", "#d5459b", "#1098ad")
_STYLE += "".join(
    f".s{number} {{ fill: {colour} }} line.s{number} {{ stroke: {colour}; stroke-width: 2 }}\n"
    for number, colour in enumerate(_SERIES)
)


def document(width: int, height: int, parts: Iterable[str], title: str) -> str:
    """Return a whole file with these parts in it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">\n'
        f"<title>{_clean(title)}</title>\n<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def rectangle(x: float, y: float, width: float, height: float, kind: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}"'
    return f'<rect {place} class="{kind}"/>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "line") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def series(number: int) -> str:
    """Return the class of one of several curves; after eight they begin again."""
    return f"s{number % len(_SERIES)}"


def dot(x: float, y: float, radius: float, kind: str = "dot") -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="{kind}"/>'


def words(x: float, y: float, text: str, *, kind: str = "", end: bool = False) -> str:
    """Write text whose base line begins at (x, y), or ends there with `end`."""
    anchor = ' text-anchor="end"' if end else ""
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{anchor}{named}>{_clean(text)}</text>'


def _clean(text: str) -> str:
    return escape(printable(text))  # XML has no place for most control characters
