"""The plots of the HTML report: learning curves, and the score by the cost of a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log10
from statistics import fmean
from typing import NamedTuple

from ragkit_pipelines.compare.reports.score_table import by_strategy, largest
from ragkit_pipelines.compare.reports.svg import (
    LINE,
    Box,
    Scale,
    line,
    linear_ticks,
    marker,
    number,
    path,
    picture,
    place_label,
    shortened,
    spread,
    text,
    width_of,
)
from ragkit_pipelines.compare.results import Results, Row
from ragkit_pipelines.compare.statistics.costs import per_thousand

COLOURS = 8  # in the style sheet of the page; more strategies repeat them with other markers
_HEIGHT, _TOP, _BOTTOM, _LEFT = 400.0, 34.0, 52.0, 52.0


class Plot(NamedTuple):
    """A plot: its title, a caption, and the image for wide and for narrow screens."""

    title: str
    caption: str
    wide: str
    narrow: str


class _Point(NamedTuple):
    """The score of a strategy at one place, with its interval; ``order`` determines colour and marker."""

    strategy: str
    order: int
    x: float
    score: float
    low: float
    high: float

    @property
    def style(self) -> str:
        return f"c{self.order % COLOURS}"

    @property
    def shape(self) -> int:
        return self.order % COLOURS + self.order // COLOURS


def plots(results: Results) -> list[Plot]:
    """Return the plots that the results have the data for."""
    sound = [row for row in results.rows if row.error is None and row.n]
    found = []
    if len({row.size for row in sound}) > 1:
        found.append(_learning_curves(results, sound))
    if len(largest(results)) > 1:
        found.append(_cost_plot(results))
    return found


def axis_of(low: float, high: float) -> tuple[float, float]:
    """Return round ends of an axis of scores between which some values lie, within 0 and 1."""
    ticks = linear_ticks(max(0.0, low), min(1.0, high))
    return max(0.0, ticks[0]), min(1.0, ticks[-1])


def indices(results: Results) -> dict[str, int]:
    """Return the index of each strategy, which determines its colour in all plots and tables."""
    return {name: index for index, name in enumerate(by_strategy(results.rows))}


# -- learning curves ---------------------------------------------------------------------------------------------------


def _learning_curves(results: Results, sound: Sequence[Row]) -> Plot:
    known = indices(results)
    curves = [
        [
            _Point(name, known[name], size, *_score([row for row in own if row.size == size]))
            for size in sorted({row.size for row in own})
        ]
        for name, own in by_strategy(sound).items()
    ]
    measure = results.measured.partition(" on ")[0]
    title = f"{measure.capitalize()} by pool size"
    described = "; ".join(
        f"{curve[0].strategy}: " + ", ".join(f"{each.score:.3f} with {each.x:,.0f} examples" for each in curve)
        for curve in curves
    )
    seeds = len({row.seed for row in sound})
    mean = f"Means of {seeds} seeds. " if seeds > 1 else ""
    caption = (
        f"{mean}Vertical bars are 95 % intervals, drawn side by side at the same pool size. "
        "The axis of pool sizes is logarithmic."
    )
    images = [
        _draw_curves(curves, results.floor, measure, width, picture_name, title, described)
        for width, picture_name in ((1096.0, "curves"), (380.0, "curves-narrow"))
    ]
    return Plot(title, caption, *images)


def _draw_curves(
    curves: Sequence[Sequence[_Point]], floor: float, measure: str, width: float, name: str, title: str, described: str
) -> str:
    every = [point for curve in curves for point in curve]
    most = width * (0.3 if width > 500 else 0.38)
    labels = [shortened(curve[0].strategy, most) for curve in curves]
    right = max(map(width_of, labels)) + 24
    own_baseline = any(curve[0].strategy == "majority" for curve in curves)
    scale_y = _vertical(every, None if own_baseline else floor)
    sizes = sorted({point.x for point in every})
    scale_x = Scale(max(sizes[0], 0.5), max(sizes[-1], 1.0), _LEFT + 16, width - right - 14, log=True)
    parts = _score_axis(scale_y, measure, _LEFT, width - right)
    parts += _size_ticks(scale_x, sizes, scale_y.start)
    parts.append(
        text((scale_x.start + scale_x.end) / 2, _HEIGHT - 10, "labelled examples in the pool", "axis", anchor="middle")
    )
    if not own_baseline and scale_y.low <= floor <= scale_y.high:
        parts += _baseline(floor, scale_y, _LEFT, width - right)
    gap = min(5.0, 36.0 / len(curves))
    for order, curve in enumerate(curves):
        moved = (order - (len(curves) - 1) / 2) * gap
        spots = [(scale_x(point.x) + moved, scale_y(point.score)) for point in curve]
        parts += [
            line(x, scale_y(point.low), x, scale_y(point.high), f"bar {point.style}")
            for (x, _), point in zip(spots, curve, strict=True)
        ]
        parts.append(path(spots, f"curve {curve[0].style}"))
        parts += [marker(x, y, point.shape, f"mark {point.style}") for (x, y), point in zip(spots, curve, strict=True)]
    ends = [scale_y(curve[-1].score) for curve in curves]
    at = width - right + 14
    for order, (curve, label, end, y) in enumerate(
        zip(curves, labels, ends, spread(ends, _TOP, _HEIGHT - _BOTTOM), strict=True)
    ):
        start = scale_x(curve[-1].x) + (order - (len(curves) - 1) / 2) * gap + 7
        parts.append(path([(start, end), (at - 10, y), (at - 4, y)], f"leader {curve[0].style}"))
        parts.append(text(at, y, label, f"label {curve[0].style}"))
    return picture(width, _HEIGHT, name, title, described, parts)


def _size_ticks(scale: Scale, sizes: Sequence[float], bottom: float) -> list[str]:
    """Return ticks at all sizes, with the labels that have room; the largest and the smallest come first."""
    parts: list[str] = []
    taken: list[tuple[float, float]] = []
    for size in dict.fromkeys([sizes[-1], sizes[0], *sizes]):
        x, half = scale(size), width_of(number(size)) / 2 + 4
        parts.append(line(x, bottom, x, bottom + 5, "tick"))
        if all(x + half < left or x - half > right for left, right in taken):
            taken.append((x - half, x + half))
            parts.append(text(x, bottom + 16, number(size), "axis", anchor="middle"))
    return parts


# -- score by cost -----------------------------------------------------------------------------------------------------


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points (cost, score) that no other point beats in both, by rising cost."""
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda each: (points[each][0], -points[each][1])):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def costs_of(results: Results) -> tuple[list[float], str]:
    """Return the cost of 1,000 predictions of each strategy at its largest pool, and its unit.

    The unit is US dollars if every strategy has a cost above 0, otherwise seconds, which are always measured.
    """
    found = [rows for _, rows in largest(results)]
    prices = [[per_thousand(row) for row in rows] for rows in found]
    if all(price for each in prices for price in each):
        return [fmean(price or 0.0 for price in each) for each in prices], "US dollars"
    return [fmean(1000 * row.seconds / row.n for row in rows) for rows in found], "seconds"


def _cost_plot(results: Results) -> Plot:
    known, (costs, unit) = indices(results), costs_of(results)
    points = [
        _Point(name, known[name], cost, *_score(rows))
        for (name, rows), cost in zip(largest(results), costs, strict=True)
    ]
    front = [points[index] for index in pareto_front([(point.x, point.score) for point in points])]
    measure = results.measured.partition(" on ")[0]
    title = f"{measure.capitalize()} by cost of prediction"
    names = ", ".join(point.strategy for point in front)
    caption = (
        f"The line is the Pareto front: no other strategy scores higher at the same or a lower cost than {names}. "
        "The other strategies are muted. Bars are 95 % intervals."
    )
    described = "; ".join(f"{point.strategy}: {point.score:.3f} for {number(point.x)} {unit}" for point in points)
    images = [
        _draw_costs(points, front, unit, measure, width, picture_name, title, f"{described}. Pareto front: {names}.")
        for width, picture_name in ((1096.0, "costs"), (380.0, "costs-narrow"))
    ]
    return Plot(title, caption, *images)


def _draw_costs(
    points: Sequence[_Point], front: Sequence[_Point], unit: str, measure: str, width: float, name: str, title: str,
    described: str,
) -> str:  # fmt: skip
    scale_y = _vertical(points, None)
    low, high = min(point.x for point in points), max(point.x for point in points)
    logarithmic = low > 0
    if logarithmic:
        room = max(0.08 * log10(high / low), 0.15)
        scale_x = Scale(low / 10**room, high * 10**room, _LEFT, width - 14, log=True)
    else:
        scale_x = Scale(0.0, high * 1.08 or 1.0, _LEFT, width - 14)
    parts = _score_axis(scale_y, measure, _LEFT, width - 14)
    bottom = scale_y.start
    for tick in scale_x.ticks(6 if width > 500 else 4):
        x = scale_x(tick)
        parts += [line(x, bottom, x, bottom + 5, "tick"), text(x, bottom + 16, number(tick), "axis", anchor="middle")]
    name_of_axis = f"{unit} per 1,000 predictions{' (log scale)' if logarithmic else ''}"
    parts.append(text((scale_x.start + scale_x.end) / 2, _HEIGHT - 10, name_of_axis, "axis", anchor="middle"))
    spots = [(scale_x(point.x), scale_y(point.score)) for point in points]
    taken = [Box(x - 7, y - 7, x + 7, y + 7) for x, y in spots]
    corners = _stairs(front, scale_x, scale_y)
    taken += [Box(min(a, c) - 1, min(b, d) - 1, max(a, c) + 1, max(b, d) + 1) for (a, b), (c, d) in pairwise(corners)]
    taken += [
        Box(x - 1, scale_y(point.high), x + 1, scale_y(point.low)) for (x, _), point in zip(spots, points, strict=True)
    ]
    parts.append(path(corners, "front"))
    frame = Box(_LEFT, _TOP - 14, width - 2, bottom)
    for point, (x, y) in sorted(zip(points, spots, strict=True), key=lambda each: each[0] in front):
        style = point.style if point in front else "muted"
        parts.append(line(x, scale_y(point.low), x, scale_y(point.high), f"bar {style}"))
        parts.append(marker(x, y, point.shape, f"mark {style}", size=5.5))
    for point, (x, y) in sorted(zip(points, spots, strict=True), key=lambda each: each[0] not in front):
        style = point.style if point in front else "muted"
        label = shortened(point.strategy, width * 0.45)
        box, anchor = place_label(x, y, width_of(label), taken, frame)
        taken.append(box)
        middle = (box.top + box.bottom) / 2
        if abs(middle - y) > LINE:
            near = min(max(x, box.left), box.right)
            parts.append(line(x, y, near, box.bottom if middle < y else box.top, f"leader {style}"))
        at = {"start": box.left, "middle": (box.left + box.right) / 2, "end": box.right}[anchor]
        parts.append(text(at, middle, label, f"label {style}", anchor=anchor))
    return picture(width, _HEIGHT, name, title, described, parts)


def _stairs(front: Sequence[_Point], scale_x: Scale, scale_y: Scale) -> list[tuple[float, float]]:
    """Return the corners of the best score that each cost can buy."""
    corners = [(scale_x(front[0].x), scale_y(front[0].score))]
    for point in front[1:]:
        x, y = scale_x(point.x), scale_y(point.score)
        corners += [(x, corners[-1][1]), (x, y)]
    return [*corners, (scale_x.end, corners[-1][1])]


# -- shared ------------------------------------------------------------------------------------------------------------


def _vertical(points: Sequence[_Point], floor: float | None) -> Scale:
    """Return the scale of scores, which includes the baseline unless that would squeeze the rest."""
    low, high = min(point.low for point in points), max(point.high for point in points)
    if floor is not None and low - (high - low) / 2 <= floor <= high + (high - low) / 2:
        low, high = min(low, floor), max(high, floor)
    return Scale(*axis_of(low, high), _HEIGHT - _BOTTOM, _TOP)


def _score_axis(scale: Scale, measure: str, left: float, right: float) -> list[str]:
    parts = [text(left - 44, 12, measure, "axis")]
    for tick in scale.ticks():
        y = scale(tick)
        parts += [line(left, y, right, y, "grid"), text(left - 8, y, number(tick), "axis", anchor="end")]
    return parts


def _baseline(floor: float, scale: Scale, left: float, right: float) -> list[str]:
    y = scale(floor)
    return [line(left, y, right, y, "floor"), text(left + 4, y - 9, f"majority baseline {floor:.3f}", "label muted")]


def _score(rows: Sequence[Row]) -> tuple[float, float, float]:
    """Return the mean score of the seeds, and the bounds of the widest interval, between which it always lies."""
    score = fmean(row.score for row in rows)
    return score, min(score, *(row.low for row in rows)), max(score, *(row.high for row in rows))
