"""The HTML report: one page that needs no network; every text is escaped, and only its own script can run."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ragkit._extras import require
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.reports.explorer import PAGE_ROWS, explored, explorer_json
from ragkit_pipelines.compare.reports.facts import head_facts, run_facts, version_facts
from ragkit_pipelines.compare.reports.plot_parts import COLOURS, Plot, axis_of, indices
from ragkit_pipelines.compare.reports.plots import plots
from ragkit_pipelines.compare.reports.score_table import by_strategy
from ragkit_pipelines.compare.reports.standings import (
    Standing,
    detectable_note,
    evidence_parts,
    remarks,
    standings,
    test_note,
)
from ragkit_pipelines.compare.reports.svg import Scale, line, marker, number
from ragkit_pipelines.compare.reports.tables import (
    CLASS_HEADINGS,
    CONFUSION_HEADINGS,
    UNKNOWN,
    class_lines,
    confusion_lines,
    data_lines,
    matrix_headings,
    matrix_lines,
    recall_table,
    report_tables,
    warning_lines,
)
from ragkit_pipelines.compare.results import Results, Row
from ragkit_pipelines.compare.statistics.confusion import Confusion, confusions
from ragkit_pipelines.printable import printable

if TYPE_CHECKING:
    from markupsafe import Markup

_NUMBER = re.compile(rf"{UNKNOWN}|$|[≤+−-]? ?[\d.]")


def html_report(results: Results, items: Items | None = None) -> str:
    """Return the whole report as one HTML page.

    Args:
        results: Results of a comparison.
        items: The test rows with all answers, for the list of rows; omitted if None.

    Returns:
        A self-contained page. It shows its content without JavaScript, which only filters and searches the rows.

    Raises:
        MissingExtraError: If Jinja is not installed.
    """
    require("jinja2")
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=shown
    )
    rows = explored(items) if items else []
    wrong = confusions(items) if items else []
    style, script = _resource("report.css"), _resource("report.js")
    ranked = standings(results)
    return environment.from_string(
        _resource("report.html.j2")
    ).render(
        results=results,
        policy=_policy(style, script if rows else None),
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        data=Markup(explorer_json(rows)),  # noqa: S704 - escaped there
        head=head_facts(results),
        evidence=evidence_parts(results),
        warnings=warning_lines(results),
        findings=data_lines(results),
        standings=[(each, Markup(svg)) for each, svg in zip(ranked, _intervals(results, ranked), strict=True)],  # noqa: S704
        interval_axis=_interval_ends(results, ranked),
        columns=_standing_columns(ranked),
        notes=[note for note in (test_note(results), detectable_note(results)) if note],
        scores=_score_cells(results),
        sizes=sorted({row.size for row in results.rows}),
        plots=_safe(plots(results, items), Markup),
        tables=report_tables(results, items),
        recall=recall_table(wrong) if wrong else None,
        confusions=[(each.strategy, _class_tables(each)) for each in wrong],
        failed=[row for row in results.rows if row.error],
        rows=rows[:PAGE_ROWS],
        row_count=len(rows),
        left_out=len(items.inputs) - len(rows) if items else 0,
        run=run_facts(results),
        versions=version_facts(results),
        numeric=_numeric,
    )


def _numeric(lines: Sequence[Sequence[str]]) -> list[bool]:
    """Return for each column of a table whether it has numbers, which are aligned on the right."""
    return [all(_NUMBER.match(cell) for cell in column) for column in zip(*lines, strict=True)]


def _resource(name: str) -> str:
    return files("ragkit_pipelines.compare").joinpath("resources", name).read_text(encoding="utf-8")


def _policy(style: str, script: str | None) -> str:
    """Return the content security policy: nothing is loaded, and only our style sheet and script are used."""
    parts = ["default-src 'none'", f"style-src {_hash(style)}", "base-uri 'none'", "form-action 'none'"]
    return "; ".join([*parts, f"script-src {_hash(script)}"] if script else parts)


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _safe(found: Sequence[Plot], markup: type[Markup]) -> list[Plot]:
    """Mark images as safe; `svg` escapes the texts in them."""
    return [each._replace(wide=markup(each.wide), narrow=markup(each.narrow)) for each in found]


# -- scores ------------------------------------------------------------------------------------------------------------

_WIDE, _HIGH = 190.0, 22.0  # pixels of an interval in the table


def _interval_scale(results: Results, ranked: Sequence[Standing]) -> Scale:
    low, high = min(each.low for each in ranked), max(each.high for each in ranked)
    return Scale(*axis_of(min(low, results.floor), max(high, results.floor)), 6, _WIDE - 6)


def _interval_ends(results: Results, ranked: Sequence[Standing]) -> tuple[str, str]:
    if not ranked:
        return "", ""
    scale = _interval_scale(results, ranked)
    return number(scale.low), number(scale.high)


def _intervals(results: Results, ranked: Sequence[Standing]) -> list[str]:
    """Draw the interval of each strategy on the same axis, with the majority baseline."""
    if not ranked:
        return []
    scale, known, middle = _interval_scale(results, ranked), indices(results), _HIGH / 2
    drawn = []
    for each in ranked:
        index = known[each.strategy]
        style = f"c{index % COLOURS}"
        parts = [
            line(scale(results.floor), 0, scale(results.floor), _HIGH, "floor"),
            line(scale(each.low), middle, scale(each.high), middle, f"interval {style}"),
            marker(scale(each.score), middle, index % COLOURS + index // COLOURS, f"mark {style}"),
        ]
        drawn.append(
            f'<svg viewBox="0 0 {_WIDE:g} {_HIGH:g}" width="{_WIDE:g}" height="{_HIGH:g}" aria-hidden="true">'
            f"{''.join(parts)}</svg>"
        )
    return drawn


def _standing_columns(ranked: Sequence[Standing]) -> dict[str, bool]:
    """Return which of the optional columns have a known value."""
    return {
        "model": any(each.model != "none" for each in ranked),
        "difference": any(each.difference for each in ranked),
        "p": any(each.p for each in ranked),
        "equivalence": any(each.equivalence for each in ranked),
    }


def _score_cells(results: Results) -> list[tuple[str, list[list[str]]]]:
    """Return for each strategy the lines of each cell: the score, the interval, and remarks."""
    sizes = sorted({row.size for row in results.rows})
    return [
        (name, [_score_cell([row for row in own if row.size == size]) for size in sizes])
        for name, own in by_strategy(results.rows).items()
    ]


def _score_cell(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    if any(row.error for row in rows):
        return ["failed"]
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    mean = sum(row.score for row in rows) / len(rows)
    return [f"{mean:.3f}", f"[{low:.2f}, {high:.2f}]", *remarks(rows)]


def _class_tables(found: Confusion) -> list[tuple[str, Sequence[str], list[list[str]]]]:
    """Return the tables on the classes of one strategy that have a line, each with a caption and headings."""
    tables = [
        ("Precision, recall and F1", CLASS_HEADINGS, class_lines(found)),
        ("Confusion matrix (rows: expected class, columns: answer)", matrix_headings(found), matrix_lines(found)),
        ("Most frequent confusions", CONFUSION_HEADINGS, confusion_lines(found)),
    ]
    return [table for table in tables if table[2]]
