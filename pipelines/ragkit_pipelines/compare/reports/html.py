"""The HTML report: one page without scripts that needs no network; every text is escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from io import StringIO
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ragkit._extras import require
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.reports.score_table import by_strategy, score_headings, score_lines
from ragkit_pipelines.compare.reports.tables import (
    CLASS_HEADINGS,
    CONFUSION_HEADINGS,
    class_lines,
    confusion_lines,
    data_lines,
    largest,
    matrix_headings,
    matrix_lines,
    recall_table,
    report_tables,
    verdict,
    warning_lines,
)
from ragkit_pipelines.compare.results import Results, Row
from ragkit_pipelines.compare.statistics.confusion import Confusion, confusions
from ragkit_pipelines.compare.statistics.costs import per_thousand

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_ITEMS = 200


def html_report(results: Results, items: Items | None = None) -> str:
    """Return the whole report as one HTML page.

    Args:
        results: Results of a comparison.
        items: The test rows with all answers, for the list of items; omitted if None.

    Returns:
        A self-contained page.

    Raises:
        MissingExtraError: If Jinja or matplotlib is not installed.
    """
    require("jinja2", "matplotlib")
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    source = files("ragkit_pipelines.compare").joinpath("resources/report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    chosen = _interesting(items) if items else []
    wrong = confusions(items) if items else []
    return environment.from_string(source).render(
        results=results,
        verdict=verdict(results),
        data=data_lines(results),
        warnings=warning_lines(results),
        scores=(score_headings(results.rows), score_lines(results.rows)),
        # matplotlib escapes the names that it writes into its SVG
        plots=[(title, Markup(_svg(draw))) for title, draw in _plots(results)],  # noqa: S704
        tables=report_tables(results, items),
        recall=recall_table(wrong) if wrong else None,
        confusions=[(each.strategy, _class_tables(each)) for each in wrong],
        failed=[row for row in results.rows if row.error],
        items=chosen,
        left_out=len(items.inputs) - len(chosen) if items else 0,
    )


def _class_tables(found: Confusion) -> list[tuple[str, Sequence[str], list[list[str]]]]:
    """Return the tables on the classes of one strategy that have a line, each with a sentence and headings."""
    tables = [
        ("", CLASS_HEADINGS, class_lines(found)),
        ("Confusion matrix (rows: expected class, columns: answer):", matrix_headings(found), matrix_lines(found)),
        ("Most frequent confusions:", CONFUSION_HEADINGS, confusion_lines(found)),
    ]
    return [table for table in tables if table[2]]


def _interesting(items: Items) -> list[dict[str, Any]]:
    """Sort items: first those on which the strategies disagree, then those that most strategies answer wrongly."""
    shown = items.shown()

    def order(index: int) -> tuple[bool, float]:
        scores = [each.scores[index] for each in shown]
        return len(set(scores)) < 2, sum(scores)

    indices = sorted(range(len(items.inputs)), key=order)[:MOST_ITEMS]
    return [
        {
            "number": index,
            "input": items.inputs[index],
            "expected": items.expected[index],
            "right": sum(each.scores[index] >= 0.5 for each in shown),
            "answers": [
                {
                    "strategy": each.strategy,
                    "answer": each.answers[index],
                    "score": each.scores[index],
                    # `channel` has a prompt for each row and class, of which the first is shown
                    "prompt": each.prompts[index * len(each.prompts) // len(each.answers)] if each.prompts else None,
                }
                for each in shown
            ],
        }
        for index in indices
    ]


def _plots(results: Results) -> list[tuple[str, Callable[[Axes], None]]]:
    plots: list[tuple[str, Callable[[Axes], None]]] = []
    sound = [row for row in results.rows if row.error is None and row.n]
    if len({row.size for row in sound}) > 1:
        plots.append(("Score by pool size", lambda axes: _curves(axes, sound)))
    if len(largest(results)) > 1:
        plots.append(("Score by cost of prediction", lambda axes: _quality(axes, results)))
    return plots


def _curves(axes: Axes, rows: list[Row]) -> None:
    for strategy, own in by_strategy(rows).items():
        sizes = sorted({row.size for row in own})
        means, low, high = zip(*(_score([row for row in own if row.size == size]) for size in sizes), strict=True)
        axes.plot(sizes, means, marker="o", label=_plain(strategy))
        axes.fill_between(sizes, low, high, alpha=0.12)
    axes.set_xscale("log")
    axes.set_xlabel("examples in the pool")


def _quality(axes: Axes, results: Results) -> None:
    """Plot the score by money if every strategy has a cost above 0, otherwise by seconds, which are always measured."""
    found = largest(results)
    prices = [[per_thousand(row) for row in rows] for _, rows in found]
    known = all(price for each in prices for price in each)
    costs = []
    for index, (strategy, rows) in enumerate(found):
        each = [price or 0.0 for price in prices[index]] if known else [1000 * row.seconds / row.n for row in rows]
        score, low, high = _score(rows)
        costs.append(fmean(each))
        below, above = max(0.0, score - low), max(0.0, high - score)  # a bound may pass the score by rounding
        axes.errorbar(costs[-1], score, yerr=[[below], [above]], marker="o", label=_plain(strategy))
    if min(costs) > 0:
        axes.set_xscale("log")
    axes.set_xlabel("US dollars per 1,000 predictions" if known else "seconds per 1,000 predictions")


def _score(rows: Sequence[Row]) -> tuple[float, float, float]:
    """Return the mean score of the seeds, and the bounds of the widest interval."""
    return fmean(row.score for row in rows), min(row.low for row in rows), max(row.high for row in rows)


def _svg(draw: Callable[[Axes], None]) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # A fixed salt and no date, because the same results must give the same page.
    with rc_context({"svg.hashsalt": "ragkit", "svg.fonttype": "path", "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.set_ylabel("score, 95 % interval")
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return "".join(text.getvalue().partition("<svg")[1:])


def _plain(name: str) -> str:
    """Escape a legend entry: matplotlib reads `$` as mathematics, and hides entries with a leading underscore."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")
