"""Judging selectors without a language model, and choosing the best of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from time import perf_counter
from typing import TYPE_CHECKING

from ragkit.embedders import load_embedder
from ragkit.embedders.caching import RememberingEmbedder
from ragkit.errors import EmptyPoolError, InvalidInputError
from ragkit.protocols import Embedder
from ragkit.records import Selection
from ragkit.registry import find
from ragkit.templates import Template
from ragkit.text import folded, refuse_bare_string, words
from ragkit_selectors.base import Selecting
from ragkit_selectors.example_parsing import read_example
from ragkit_selectors.loading import load_selector
from ragkit_selectors.pool import AnyExample
from ragkit_selectors.stages.filters import count_pieces

if TYPE_CHECKING:
    from rich.table import Table

DEFAULT_SPECS = (
    "random",
    "jaccard",
    "tfidf",
    "bm25",
    "embedding",
    "hybrid",
    "bm25 | mmr",
    "bm25 | label-nearest",
    "bm25 | coverage",
    "hybrid | mmr",
    "hybrid | label-nearest",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectorReport:
    """What a selector chooses for rows whose outputs are known.

    Attributes:
        spec: What was judged.
        rows: Number of rows.
        k: Examples chosen for each.
        gold_at_1: Share of rows whose output is that of the best example.
        gold_at_k: Share of rows whose output is among the chosen.
        overlap: Mean over rows of the best Jaccard likeness of a chosen output's words to the row's.
        label_spread: Mean number of different outputs among the chosen.
        tokens: Mean number of words and punctuation marks that the chosen take in a prompt.
        milliseconds: Median time of choosing for one row.
        leaked: Rows that a chosen example repeats, but for case and punctuation.
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


def report(selector: Selecting, dev: Sequence[AnyExample], *, k: int = 8, spec: str = "") -> SelectorReport:
    """Judge a selector.

    Args:
        selector: The selector.
        dev: Rows with their right outputs, which are not in its pool.
        k: How many examples are chosen for each.
        spec: What it is called in the report.

    Returns:
        The report.

    Raises:
        EmptyPoolError: If there is no row.
    """
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
    pairs = list(zip(rows, chosen, strict=True))
    firsts = [next((ex for hit, ex in zip(s.hits, s, strict=True) if hit.rank == 1), None) for s in chosen]
    return SelectorReport(
        spec=spec or repr(selector),
        rows=len(rows),
        k=k,
        gold_at_1=fmean(best is not None and best.output == row.output for row, best in zip(rows, firsts, strict=True)),
        gold_at_k=fmean(any(shown.output == row.output for shown in s) for row, s in pairs),
        overlap=fmean(max((_likeness(shown.output, row.output) for shown in s), default=0.0) for row, s in pairs),
        label_spread=fmean(len({shown.output for shown in s}) for s in chosen),
        tokens=fmean(sum(count_pieces(template.render_example(shown)) for shown in s) for s in chosen),
        milliseconds=1000 * median(seconds),
        leaked=sum(folded(row.text(key)) in {folded(hit.text) for hit in s.hits} for row, s in pairs),
    )


def _likeness(output: str, expected: str) -> float:
    """Jaccard likeness of words; the same text is as like as can be, also where it has none."""
    one, other = set(words(output)), set(words(expected))
    return 1.0 if output == expected else len(one & other) / max(1, len(one | other))


@dataclass(frozen=True, slots=True)
class AutoSelection:
    """The best of several selectors, with the reports that it was chosen by.

    Attributes:
        selector: The best one.
        reports: All reports, the best first.
    """

    selector: Selecting
    reports: tuple[SelectorReport, ...]

    def table(self) -> Table:
        """The reports side by side, for a terminal."""
        from rich.table import Table

        first = self.reports[0]
        table = Table(title=f"{first.rows} rows, {first.k} examples each")
        table.add_column("selector")
        columns = ("gold@1", f"gold@{first.k}", "overlap", "labels", "tokens", "ms", "leaked")
        for name in columns:
            table.add_column(name, justify="right")
        for each in self.reports:
            shares = (each.gold_at_1, each.gold_at_k, each.overlap)
            numbers = (each.label_spread, each.tokens)
            table.add_row(
                each.spec,
                *(f"{share:.3f}" for share in shares),
                *(f"{number:.1f}" for number in numbers),
                f"{each.milliseconds:.2f}",
                str(each.leaked),
            )
        return table


def autoselect(
    pool: Sequence[AnyExample],
    dev: Sequence[AnyExample],
    *,
    k: int = 8,
    specs: Sequence[str] = DEFAULT_SPECS,
    embedder: str | Embedder = "minilm",
    key: str = "input",
    output: str = "output",
    seed: int = 0,
) -> AutoSelection:
    """Choose the selector whose examples come nearest to the right outputs, without a language model.

    The best output overlap counts, which for labels is whether the right one is shown; then the best example's output;
    then the order of ``specs``.

    Args:
        pool: The examples.
        dev: Rows with their right outputs, which are not in the pool.
        k: How many examples are chosen for each row.
        specs: What is tried, as `load_selector` reads it.
        embedder: For the specs that need one.
        key: The part of an input that is searched.
        output: The entry of a mapping that holds the answer.
        seed: For the specs that draw.

    Returns:
        The best selector and all reports.

    Raises:
        InvalidInputError: If there is no spec.
    """
    refuse_bare_string("specs", specs)
    if not specs:
        raise InvalidInputError("`specs` must name one selector at least, such as 'bm25'; got none")
    sources = [spec.partition("|")[0].strip() for spec in specs]
    needed = any("embedder" in find("selector", source).parameters() for source in sources)
    shared = RememberingEmbedder(load_embedder(embedder)) if needed else embedder
    pool, dev = list(pool), list(dev)
    judged = []
    for spec in specs:
        selector = load_selector(spec, pool, key=key, output=output, embedder=shared, seed=seed)
        judged.append((report(selector, dev, k=k, spec=spec), selector))
    judged.sort(key=lambda pair: (-pair[0].overlap, -pair[0].gold_at_1))  # stable
    return AutoSelection(judged[0][1], tuple(each for each, _ in judged))
