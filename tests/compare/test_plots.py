"""The plots of the HTML report: ticks, labels that do not overlap, and the Pareto front."""

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit_pipelines.compare.reports.plots import pareto_front, plots
from ragkit_pipelines.compare.reports.svg import (
    Box,
    Scale,
    linear_ticks,
    number,
    place_label,
    shortened,
    spread,
    width_of,
)
from ragkit_pipelines.compare.results import Cell, make_row
from ragkit_pipelines.compare.statistics.recommendation import summarise


def results_of(scores, sizes=(10, 100, 1000), costs=None):
    """Strategies with a score at each size."""
    cells = [
        Cell(key="", row=make_row(strategy=name, model=None, size=size, seed=0, n=100, correct=right, prompt_tokens=0,
             completion_tokens=0, seconds=(costs or {}).get(name, 1.0), fit_seconds=0, cost=None),
             answers=[""] * 100, scores=[1.0] * right + [0.0] * (100 - right))
        for name, own in scores.items() for size, right in zip(sizes, own, strict=True)
    ]  # fmt: skip
    return summarise("t", 0, cells, draws=100)


def root_of(svg):
    return ElementTree.fromstring(svg)  # noqa: S314 - our own image


def texts(svg):
    """The texts of an image: content, class, and position."""
    found = [each for each in root_of(svg).iter() if each.tag.endswith("}text")]
    return [(each.text, each.get("class"), float(each.get("x")), float(each.get("y"))) for each in found]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.13, 0.87, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.61, 0.68, [0.6, 0.62, 0.64, 0.66, 0.68]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (3, 47, [0, 10, 20, 30, 40, 50]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, ticks):
    assert linear_ticks(low, high) == pytest.approx(ticks)


@given(st.floats(1e-9, 1e12), st.floats(1.0, 1e12))
def test_a_logarithmic_axis_has_few_ticks_within_it(low, factor):
    ticks = Scale(low, low * factor * 1.5, 0, 100, log=True).ticks(6)
    assert len(ticks) <= 9
    assert all(low * 0.999 <= tick <= low * factor * 1.501 for tick in ticks)
    assert all(f"{tick:.3e}"[:5] in {"1.000", "2.000", "5.000"} for tick in ticks)


def test_numbers_of_ticks_are_readable():
    shown = [number(each) for each in (0, 0.2, 1000.0, 5452, 0.00001, 1e9, 1e-12)]
    assert shown == ["0", "0.2", "1,000", "5,452", "0.00001", "1e9", "1e-12"]
    assert shortened("few-shot:embedding", 1000) == "few-shot:embedding"
    short = shortened("few-shot:embedding@32+contextual", 100)
    assert re.fullmatch(r"few-shot?…\w*al", short)
    assert width_of(short) <= 100


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_labels_at_the_ends_of_lines_keep_their_order_and_distance(wanted):
    placed = spread(wanted, 0, 300, gap=15)
    assert all(0 <= each <= 300 for each in placed)
    assert all(abs(one - other) >= 15 - 1e-6 for one, other in combinations(placed, 2))
    for (one, first), (other, second) in combinations(zip(wanted, placed, strict=True), 2):
        assert first <= second or one >= other
        assert second <= first or other >= one


def test_a_label_avoids_what_is_there():
    frame, point = Box(0, 0, 400, 400), Box(193, 193, 207, 207)
    free, anchor = place_label(200, 200, 80, [point], frame)
    assert (anchor, free.overlap(point)) == ("start", 0)
    wall = Box(210, 0, 400, 400)
    box, anchor = place_label(200, 200, 80, [point, wall], frame)
    assert anchor == "end"
    assert box.overlap(wall) == box.overlap(point) == 0


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=12))
def test_the_front_is_what_no_other_point_beats(points):
    front = pareto_front(points)
    for index, (cost, score) in enumerate(points):
        beaten = any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
        assert beaten == (points[index] not in [points[each] for each in front])
    assert [points[each][0] for each in front] == sorted({points[each][0] for each in front})


def test_every_line_is_labelled_with_its_strategy():
    names = {f"strategy-{n}": (10 + n, 30 + n, 50 + n) for n in range(8)}
    curves, _ = plots(results_of(names))
    for svg in (curves.wide, curves.narrow):
        labels = [each for each in texts(svg) if each[1].startswith("label c")]
        assert [label[0] for label in labels] == list(names)
        assert len({label[1] for label in labels}) == 8
        assert min(abs(one[3] - other[3]) for one, other in combinations(labels, 2)) > 14
        sizes = [each[0] for each in texts(svg) if each[1] == "axis"]
        assert {"10", "100", "1,000", "labelled examples in the pool"} <= set(sizes)


def test_the_axes_of_costs_have_units_and_dominated_points_are_muted():
    scores = {"cheap": (50,), "dear": (80,), "bad": (40,)}
    (plot,) = plots(results_of(scores, sizes=(10,), costs={"cheap": 1.0, "dear": 50.0, "bad": 20.0}))
    shown = {content: style for content, style, *_ in texts(plot.wide)}
    assert "seconds per 1,000 predictions (log scale)" in shown
    assert "accuracy" in shown
    assert (shown["cheap"], shown["dear"], shown["bad"]) == ("label c0", "label c1", "label muted")
    assert "cheap, dear" in plot.caption
    assert 'class="front"' in plot.wide
    root = root_of(plot.wide)
    assert root.get("role") == "img"
    named = {each.get("id") for each in root}
    assert set(root.get("aria-labelledby").split()) <= named
    assert "bad: 0.400 for 200 seconds" in "".join(root.itertext())


def test_names_are_escaped_in_images():
    evil = "]]><script>alert(1)</script>&\"'\x1b"
    (plot,) = plots(results_of({evil: (50,), "b": (60,)}, sizes=(10,)))
    assert "<script" not in plot.wide + plot.narrow
    assert "\x1b" not in plot.wide
    assert any(evil.replace("\x1b", "\\x1b") in (each.text or "") for each in root_of(plot.wide).iter())
