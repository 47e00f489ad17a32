"""Evaluation of selectors without a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from time import perf_counter
from typing import TYPE_CHECKING

from ragkit._text import folded, words
from ragkit.errors import EmptyPoolError
from ragkit.records import Selection
from ragkit.templates import Template
from ragkit_selectors.example_parsing import read_example
from ragkit_selectors.pool import AnyExample
from ragkit_selectors.stages.filters import count_pieces

if TYPE_CHECKING:
    from ragkit_selectors.base import BaseSelector


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectorReport:
    """An evaluation of the examples that a selector selects for rows with known outputs.

    Attributes:
        spec: Spec of the selector.
        rows: Number of rows.
        k: Number of examples selected for each row.
        gold_at_1: Share of rows whose output equals that of the best example.
        gold_at_k: Share of rows whose output equals that of a selected example.
        overlap: Mean over rows of the highest Jaccard similarity between the words of a selected output and the row's.
        label_spread: Mean number of different outputs among the selected examples.
        tokens: Mean number of words and punctuation marks of the selected examples in a prompt.
        milliseconds: Median time of a selection for one row.
        leaked: Number of rows whose input equals that of a selected example, ignoring case and punctuation.
    """

    spec: str
    rows: int
    k: int
    gold_at_1: float
    gold_at_k: float
    overlap: float
    label_spread: float
    tokens: float
    milliseconds: float
    leaked: int


def report(selector: BaseSelector, dev: Sequence[AnyExample], *, k: int = 8, spec: str = "") -> SelectorReport:
    """Evaluate a selector on rows that are not in the pool; ``spec`` is its name in the report."""
    rows = [read_example(row, f"dev[{place}]", selector.source.pool.output) for place, row in enumerate(dev)]
    if not rows:
        raise EmptyPoolError("report")
    key, template = selector.source.pool.key, Template()
    chosen: list[Selection] = []
    seconds: list[float] = []
    for row in rows:
        started = perf_counter()
        chosen.append(selector.select(row.input, k))
        seconds.append(perf_counter() - started)
    pairs = [*zip(rows, chosen, strict=True)]
    firsts = [next((ex for hit, ex in zip(s.hits, s, strict=True) if hit.rank == 1), None) for s in chosen]
    return SelectorReport(
        spec=spec or repr(selector),
        rows=len(rows),
        k=k,
        gold_at_1=fmean(best is not None and best.output == row.output for row, best in zip(rows, firsts, strict=True)),
        gold_at_k=fmean(any(shown.output == row.output for shown in s) for row, s in pairs),
        overlap=fmean(
            max((_output_similarity(shown.output, row.output) for shown in s), default=0.0) for row, s in pairs
        ),
        label_spread=fmean(len({shown.output for shown in s}) for s in chosen),
        tokens=fmean(sum(count_pieces(template.render_example(shown)) for shown in s) for s in chosen),
        milliseconds=1000 * median(seconds),
        leaked=sum(folded(row.text(key)) in {folded(hit.text) for hit in s.hits} for row, s in pairs),
    )


def _output_similarity(output: str, expected: str) -> float:
    """Return the Jaccard similarity of the words of two outputs; 1 for equal outputs, even without words."""
    one, other = set(words(output)), set(words(expected))
    return 1.0 if output == expected else len(one & other) / max(1, len(one | other))
