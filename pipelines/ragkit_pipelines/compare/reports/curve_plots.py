"""The curves of the HTML report: scores by pool size and by the number of in-context examples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from ragkit_pipelines.compare.reports.plot_parts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    TOP,
    Plot,
    Point,
    baseline_line,
    capitalised,
    indices,
    mean_score,
    score_axis,
    vertical_scale,
)
from ragkit_pipelines.compare.reports.score_table import by_strategy, largest
from ragkit_pipelines.compare.reports.svg import (
    Scale,
    line,
    marker,
    number,
    path,
    picture,
    shortened,
    spread,
    text,
    width_of,
)
from ragkit_pipelines.compare.results import Results, Row
from ragkit_pipelines.compare.statistics.crossovers import Crossover
from ragkit_pipelines.compare.strategies.base import SHOTS

# A prompting strategy with a selector: its name without the number of examples, in two parts, and that number.
_WITH_SHOTS = re.compile(r"((?:few-shot|score|channel|reason):[^@*+]+)(?:@(\d+))?((?:[*+].*)?)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Axis:
    """The horizontal axis, which is logarithmic; ``shift`` is added to the values, so that 0 has a place on it."""

    title: str
    shift: int = 0

    def place(self, value: float) -> float:
        return value + self.shift


def learning_curves(results: Results, sound: Sequence[Row], found: Sequence[Crossover] = ()) -> Plot:
    """Draw the score of each strategy by pool size, with the crossover of the best trained strategy."""
    known = indices(results)
    curves = [
        [
            Point(name, known[name], size, *mean_score([row for row in own if row.size == size]))
            for size in sorted({row.size for row in own})
        ]
        for name, own in by_strategy(sound).items()
    ]
    crossed = found[0] if found else None
    caption = (
        f"{_seeds(sound)}Vertical bars are 95 % intervals, drawn side by side at the same pool size. "
        "The axis of pool sizes is logarithmic."
    )
    if crossed is not None:
        caption += (
            f" The horizontal bar above the axis is the pool size at which {crossed.strategy} overtakes "
            f"{crossed.other}, with its 95 % interval: {crossed}."
        )
    axis = _Axis("labelled examples in the pool")
    return _plot(results, curves, axis, "by pool size", "curves", caption, crossed)


def shot_curves(results: Results, sound: Sequence[Row]) -> Plot | None:
    """Draw the scores at the largest pool by the number of in-context examples; None if no number was varied.

    The curve of a few-shot strategy begins with zero-shot prompting, if it was run.

    Returns:
        The plot.
    """
    size = max((row.size for row in sound), default=0)
    at_largest = {name: rows for name, rows in largest(results) if rows[0].size == size}
    families: dict[str, dict[int, Sequence[Row]]] = {}
    for name, rows in at_largest.items():
        if (match := _WITH_SHOTS.fullmatch(name)) is not None:
            families.setdefault(match[1] + match[3], {})[int(match[2] or SHOTS)] = rows
    known, curves = indices(results), []
    for family, by_shots in families.items():
        if len(by_shots) < 2:
            continue
        first = next(iter(by_shots.values()))[0].strategy
        alone = f"zero-shot{family[family.find('*') :] if '*' in family else ''}"
        if family.startswith("few-shot:") and alone in at_largest:
            by_shots = {0: at_largest[alone], **by_shots}
        curves.append([Point(family, known[first], k, *mean_score(rows)) for k, rows in sorted(by_shots.items())])
    if not curves:
        return None
    caption = (
        f"{_seeds(sound)}All strategies select from the largest pool ({size:,} examples). Vertical bars are 95 % "
        "intervals, drawn side by side. The axis shows the logarithm of the number plus 1."
    )
    return _plot(results, curves, _Axis("in-context examples", shift=1), "by number of shots", "shots", caption, None)


def _seeds(sound: Sequence[Row]) -> str:
    seeds = len({row.seed for row in sound})
    return f"Means of {seeds} seeds. " if seeds > 1 else ""


def _plot(
    results: Results, curves: Sequence[Sequence[Point]], axis: _Axis, by: str, name: str, caption: str,
    crossed: Crossover | None,
) -> Plot:  # fmt: skip
    measure = results.score_title
    title = f"{capitalised(measure)} {by}"
    described = "; ".join(
        f"{curve[0].strategy}: " + ", ".join(f"{each.score:.3f} with {each.x:,.0f} examples" for each in curve)
        for curve in curves
    )
    if crossed is not None:
        described += f"; {crossed.strategy} overtakes {crossed.other} at {crossed}"
    images = [
        _draw_curves(curves, axis, results.floor, measure, width, picture_name, title, described, crossed)
        for width, picture_name in ((1096.0, name), (380.0, f"{name}-narrow"))
    ]
    return Plot(title, caption, *images)


def _draw_curves(
    curves: Sequence[Sequence[Point]], axis: _Axis, floor: float, measure: str, width: float, name: str, title: str,
    described: str, crossed: Crossover | None,
) -> str:  # fmt: skip
    every = [point for curve in curves for point in curve]
    most = width * (0.3 if width > 500 else 0.38)
    labels = [shortened(curve[0].strategy, most) for curve in curves]
    right = max(map(width_of, labels)) + 24
    own_baseline = any(curve[0].strategy == "majority" for curve in curves)
    scale_y = vertical_scale(every, None if own_baseline else floor)
    sizes = sorted({axis.place(point.x) for point in every})
    scale_x = Scale(max(sizes[0], 0.5), max(sizes[-1], 1.0), LEFT + 16, width - right - 14, log=True)
    parts = score_axis(scale_y, measure, LEFT, width - right)
    parts += _size_ticks(scale_x, sizes, scale_y.start, axis.shift)
    parts.append(text((scale_x.start + scale_x.end) / 2, HEIGHT - 10, axis.title, "axis", anchor="middle"))
    if crossed is not None:
        style = next((curve[0].style for curve in curves if curve[0].strategy == crossed.strategy), "muted")
        parts += _crossing(crossed, scale_x, scale_y.start - 6, style)
    if not own_baseline and scale_y.low <= floor <= scale_y.high:
        parts += baseline_line(floor, scale_y, LEFT, width - right)
    gap = min(5.0, 36.0 / len(curves))
    for order, curve in enumerate(curves):
        moved = (order - (len(curves) - 1) / 2) * gap
        spots = [(scale_x(axis.place(point.x)) + moved, scale_y(point.score)) for point in curve]
        parts += [
            line(x, scale_y(point.low), x, scale_y(point.high), f"bar {point.style}")
            for (x, _), point in zip(spots, curve, strict=True)
        ]
        parts.append(path(spots, f"curve {curve[0].style}"))
        parts += [marker(x, y, point.shape, f"mark {point.style}") for (x, y), point in zip(spots, curve, strict=True)]
    ends = [scale_y(curve[-1].score) for curve in curves]
    at = width - right + 14
    for order, (curve, label, end, y) in enumerate(
        zip(curves, labels, ends, spread(ends, TOP, HEIGHT - BOTTOM), strict=True)
    ):
        start = scale_x(axis.place(curve[-1].x)) + (order - (len(curves) - 1) / 2) * gap + 7
        parts.append(path([(start, end), (at - 10, y), (at - 4, y)], f"leader {curve[0].style}"))
        parts.append(text(at, y, label, f"label {curve[0].style}"))
    return picture(width, HEIGHT, name, title, described, parts)


def _crossing(crossed: Crossover, scale: Scale, y: float, style: str) -> list[str]:
    """Return the interval of a crossover as a horizontal bar within the axis, with a marker at its size."""
    low, high = (scale(min(size, crossed.largest)) for size in (crossed.low, crossed.high))
    parts = [line(low, y, high, y, f"interval {style}")]
    if isfinite(crossed.size):
        parts.append(marker(scale(crossed.size), y, 3, f"mark {style}"))
    return parts


def _size_ticks(scale: Scale, sizes: Sequence[float], bottom: float, shift: int) -> list[str]:
    """Return ticks at all sizes, with the labels that have room; the largest and the smallest come first."""
    parts: list[str] = []
    taken: list[tuple[float, float]] = []
    for size in dict.fromkeys([sizes[-1], sizes[0], *sizes]):
        x, half = scale(size), width_of(number(size - shift)) / 2 + 4
        parts.append(line(x, bottom, x, bottom + 5, "tick"))
        if all(x + half < left or x - half > right for left, right in taken):
            taken.append((x - half, x + half))
            parts.append(text(x, bottom + 16, number(size - shift), "axis", anchor="middle"))
    return parts
