"""What the plots of the HTML report share: points, axes of scores, and the majority baseline."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from ragkit_pipelines.compare.reports.score_table import by_strategy
from ragkit_pipelines.compare.reports.svg import Scale, line, linear_ticks, number, text
from ragkit_pipelines.compare.results import Results, Row

COLOURS = 8  # in the style sheet of the page; more strategies repeat them with other markers
HEIGHT, TOP, BOTTOM, LEFT = 400.0, 34.0, 52.0, 52.0


class Plot(NamedTuple):
    """A plot: its title, a caption, and the image for wide and for narrow screens."""

    title: str
    caption: str
    wide: str
    narrow: str


class Point(NamedTuple):
    """The score of a strategy at one place, with its interval; ``order`` determines colour and marker."""

    strategy: str
    order: int
    x: float
    score: float
    low: float
    high: float

    @property
    def style(self) -> str:
        """The class of its colour."""
        return f"c{self.order % COLOURS}"

    @property
    def shape(self) -> int:
        """The shape of its marker."""
        return self.order % COLOURS + self.order // COLOURS


def axis_of(low: float, high: float) -> tuple[float, float]:
    """Return round ends of an axis of scores between which some values lie, within 0 and 1, or -1 and 1 if needed."""
    least = 0.0 if low >= 0 else -1.0
    ticks = linear_ticks(max(least, low), min(1.0, high))
    return max(least, ticks[0]), min(1.0, ticks[-1])


def indices(results: Results) -> dict[str, int]:
    """Return the index of each strategy, which determines its colour in all plots and tables."""
    return {name: index for index, name in enumerate(by_strategy(results.rows))}


def vertical_scale(points: Sequence[Point], floor: float | None) -> Scale:
    """Return the scale of scores, which includes the baseline unless that would squeeze the rest."""
    low, high = min(point.low for point in points), max(point.high for point in points)
    if floor is not None and low - (high - low) / 2 <= floor <= high + (high - low) / 2:
        low, high = min(low, floor), max(high, floor)
    return Scale(*axis_of(low, high), HEIGHT - BOTTOM, TOP)


def score_axis(scale: Scale, measure: str, left: float, right: float) -> list[str]:
    """Return the grid of a plot, with the name of the measure."""
    parts = [text(left - 44, 12, measure, "axis")]
    for tick in scale.ticks():
        y = scale(tick)
        parts += [line(left, y, right, y, "grid"), text(left - 8, y, number(tick), "axis", anchor="end")]
    return parts


def baseline_line(floor: float, scale: Scale, left: float, right: float) -> list[str]:
    """Return the line of the majority baseline."""
    y = scale(floor)
    return [line(left, y, right, y, "floor"), text(left + 4, y - 9, f"majority baseline {floor:.3f}", "label muted")]


def mean_score(rows: Sequence[Row]) -> tuple[float, float, float]:
    """Return the mean score of the seeds, and the bounds of the widest interval, between which it always lies."""
    score = fmean(row.score for row in rows)
    return score, min(score, *(row.low for row in rows)), max(score, *(row.high for row in rows))


def capitalised(measure: str) -> str:
    """Return the name of a measure with a capital letter; abbreviations such as "MCC" remain as they are."""
    return measure[:1].upper() + measure[1:]
