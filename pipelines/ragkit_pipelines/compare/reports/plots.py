"""The plots of the HTML report: scores by pool size and by number of shots, and by the cost of a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log10
from statistics import fmean

from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.reports.curve_plots import learning_curves, shot_curves
from ragkit_pipelines.compare.reports.plot_parts import (
    HEIGHT,
    LEFT,
    TOP,
    Plot,
    Point,
    capitalised,
    indices,
    mean_score,
    score_axis,
    vertical_scale,
)
from ragkit_pipelines.compare.reports.score_table import largest
from ragkit_pipelines.compare.reports.svg import (
    LINE,
    Box,
    Scale,
    line,
    marker,
    number,
    path,
    picture,
    place_label,
    shortened,
    text,
    width_of,
)
from ragkit_pipelines.compare.reports.tables import crossovers
from ragkit_pipelines.compare.results import Results
from ragkit_pipelines.compare.statistics.costs import per_thousand


def plots(results: Results, items: Items | None = None) -> list[Plot]:
    """Return the plots that the results have the data for; ``items`` adds the crossover to the learning curves."""
    sound = [row for row in results.rows if row.error is None and row.n]
    found = []
    if len({row.size for row in sound}) > 1:
        found.append(learning_curves(results, sound, crossovers(results, items)))
    shots = shot_curves(results, sound)
    if shots is not None:
        found.append(shots)
    if len(largest(results)) > 1:
        found.append(_cost_plot(results))
    return found


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
        Point(name, known[name], cost, *mean_score(rows))
        for (name, rows), cost in zip(largest(results), costs, strict=True)
    ]
    front = [points[index] for index in pareto_front([(point.x, point.score) for point in points])]
    measure = results.score_title
    title = f"{capitalised(measure)} by cost of prediction"
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
    points: Sequence[Point], front: Sequence[Point], unit: str, measure: str, width: float, name: str, title: str,
    described: str,
) -> str:  # fmt: skip
    scale_y = vertical_scale(points, None)
    low, high = min(point.x for point in points), max(point.x for point in points)
    logarithmic = low > 0
    if logarithmic:
        room = max(0.08 * log10(high / low), 0.15)
        scale_x = Scale(low / 10**room, high * 10**room, LEFT, width - 14, log=True)
    else:
        scale_x = Scale(0.0, high * 1.08 or 1.0, LEFT, width - 14)
    parts = score_axis(scale_y, measure, LEFT, width - 14)
    bottom = scale_y.start
    for tick in scale_x.ticks(6 if width > 500 else 4):
        x = scale_x(tick)
        parts += [line(x, bottom, x, bottom + 5, "tick"), text(x, bottom + 16, number(tick), "axis", anchor="middle")]
    name_of_axis = f"{unit} per 1,000 predictions{' (log scale)' if logarithmic else ''}"
    parts.append(text((scale_x.start + scale_x.end) / 2, HEIGHT - 10, name_of_axis, "axis", anchor="middle"))
    spots = [(scale_x(point.x), scale_y(point.score)) for point in points]
    taken = [Box(x - 7, y - 7, x + 7, y + 7) for x, y in spots]
    corners = _stairs(front, scale_x, scale_y)
    taken += [Box(min(a, c) - 1, min(b, d) - 1, max(a, c) + 1, max(b, d) + 1) for (a, b), (c, d) in pairwise(corners)]
    taken += [
        Box(x - 1, scale_y(point.high), x + 1, scale_y(point.low)) for (x, _), point in zip(spots, points, strict=True)
    ]
    parts.append(path(corners, "front"))
    frame = Box(LEFT, TOP - 14, width - 2, bottom)
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
    return picture(width, HEIGHT, name, title, described, parts)


def _stairs(front: Sequence[Point], scale_x: Scale, scale_y: Scale) -> list[tuple[float, float]]:
    """Return the corners of the best score that each cost can buy."""
    corners = [(scale_x(front[0].x), scale_y(front[0].score))]
    for point in front[1:]:
        x, y = scale_x(point.x), scale_y(point.score)
        corners += [(x, corners[-1][1]), (x, y)]
    return [*corners, (scale_x.end, corners[-1][1])]
