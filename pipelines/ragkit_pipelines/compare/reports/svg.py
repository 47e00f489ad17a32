"""The parts of plots as SVG: scales, ticks, texts, and labels that do not overlap.

Colours are set by classes, which the style sheet of the page defines for light and dark backgrounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from unicodedata import east_asian_width

from ragkit_pipelines.printable import printable

LETTER = 7.2  # mean width of a letter at 12 px
LINE = 15.0  # height of a line of text
_MOST_DECADES = 12  # ticks of a logarithmic axis


@dataclass(frozen=True, slots=True)
class Scale:
    """Map values from ``low`` to ``high`` to pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value; values outside the scale are moved to its ends."""
        low, high, at = (log10(each) if self.log else each for each in (self.low, self.high, max(value, self.low)))
        share = (min(at, high) - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Return round values within the scale: about ``count`` of them, or powers of ten on a logarithmic scale."""
        if not self.log:
            return [each for each in linear_ticks(self.low, self.high, count) if self.low <= each <= self.high]
        first, last = ceil(log10(self.low) - 1e-9), floor(log10(self.high) + 1e-9)
        factors = (1, 2, 5) if last - first < 2 else (1,)
        step = max(1, ceil((last - first) / min(_MOST_DECADES, count)))
        ticks = [factor * 10.0**power for power in range(first - 1, last + 1, step) for factor in factors]
        return [each for each in ticks if self.low * (1 - 1e-9) <= each <= self.high * (1 + 1e-9)]


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round values, the first at or below ``low`` and the last at or above ``high``."""
    span = high - low if high > low else 1.0
    size = 10.0 ** floor(log10(span / count))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= count)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(step * index, 12) for index in range(first, last + 1)]


def number(value: float) -> str:
    """Format a tick: with thousands separators, and without trailing zeros."""
    if value and not 1e-6 <= abs(value) < 1e7:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:,.7f}".rstrip("0").rstrip(".")


def width_of(text: str) -> float:
    """Estimate the width of a text at 12 px."""
    return sum(12.0 if east_asian_width(letter) in {"W", "F"} else LETTER for letter in text)


def shortened(text: str, most: float) -> str:
    """Shorten a text to a width; the end of a strategy's name says more than its middle."""
    if width_of(text) <= most:
        return text
    letters = max(4, int(most / LETTER) - 1)
    return f"{text[: letters * 2 // 3]}…{text[len(text) - letters // 3 :]}"


def escaped(text: str) -> str:
    """Escape a text for SVG and HTML."""
    shown = printable(text)
    for letter, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;")):
        shown = shown.replace(letter, entity)
    return shown


def text(x: float, y: float, content: str, style: str, *, anchor: str = "start") -> str:
    """Return a text; ``y`` is the middle of its line."""
    return f'<text x="{x:.1f}" y="{y + 4:.1f}" class="{style}" text-anchor="{anchor}">{escaped(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """Return a straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def path(points: Sequence[tuple[float, float]], style: str) -> str:
    """Return a line through points."""
    return f'<path d="M{" L".join(f"{x:.1f} {y:.1f}" for x, y in points)}" class="{style}"/>'


def marker(x: float, y: float, shape: int, style: str, *, size: float = 4.5) -> str:
    """Return a marker; strategies differ in its shape as well as in colour."""
    if shape % 4 == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" class="{style}"/>'
    corners = {
        1: ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        2: ((0, -1.25), (1.15, 0.9), (-1.15, 0.9)),
        3: ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    }[shape % 4]
    points = " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" class="{style}"/>'


def spread(wanted: Sequence[float], low: float, high: float, gap: float = LINE) -> list[float]:
    """Move positions apart to at least ``gap``, in their order and between ``low`` and ``high`` if there is room."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    placed = [0.0] * len(wanted)
    least = low
    for index in order:
        placed[index] = max(wanted[index], least)
        least = placed[index] + gap
    most = high
    for index in reversed(order):
        placed[index] = min(placed[index], most)
        most = placed[index] - gap
    return placed


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle that labels must not cover."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Return the area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, wide) * max(0.0, high)


def place_label(x: float, y: float, width: float, taken: Sequence[Box], frame: Box) -> tuple[Box, str]:
    """Find a place for a label next to a point: the one that covers the least of what is there, near ones first.

    Returns:
        The place, and the anchor of the text: its start if it is to the right of the point, and so on.
    """
    best, least = (Box(x, y, x + width, y + LINE), "start"), float("inf")
    places = [(anchor, row) for row in (0, -1, 1, -2, 2, -3, 3, -4, 4) for anchor in ("start", "end", "middle")]
    for rank, (anchor, row) in enumerate(places):
        left = {"start": x + 9, "end": x - 9 - width, "middle": x - width / 2}[anchor]
        top = y + row * LINE - LINE / 2
        box = Box(left, top, left + width, top + LINE)
        inside = box.overlap(frame)
        cost = sum(box.overlap(each) for each in taken) + 10 * (width * LINE - inside) + rank
        if cost < least:
            best, least = (box, anchor), cost
    return best


def picture(width: float, height: float, name: str, title: str, description: str, parts: Sequence[str]) -> str:
    """Return an image with a title and a description for screen readers; ``name`` is unique on the page."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-labelledby="{name}-title {name}-text">'
        f'<title id="{name}-title">{escaped(title)}</title><desc id="{name}-text">{escaped(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )
