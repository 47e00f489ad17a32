"""Automatic choice of the best of several selectors, without a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragkit._text import refuse_bare_string
from ragkit.embedders import load_embedder
from ragkit.embedders._caching import RememberingEmbedder
from ragkit.errors import InvalidInputError
from ragkit.protocols import Embedder
from ragkit.registry import find
from ragkit_selectors.base import BaseSelector
from ragkit_selectors.loading import load_selector
from ragkit_selectors.pool import AnyExample
from ragkit_selectors.report import SelectorReport, report

if TYPE_CHECKING:
    from rich.table import Table

DEFAULT_SPECS = (
    "random", "jaccard", "tfidf", "bm25", "embedding", "hybrid", "bm25 | mmr", "bm25 | label-nearest",
    "bm25 | coverage", "hybrid | mmr", "hybrid | label-nearest",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AutoSelection:
    """The best of several selectors, with the reports of all of them.

    Attributes:
        selector: The best selector.
        reports: All reports, the best first.
    """

    selector: BaseSelector
    reports: tuple[SelectorReport, ...]

    def table(self) -> Table:
        """Return a table that compares the reports, for a terminal."""
        from rich.table import Table

        first = self.reports[0]
        table = Table(title=f"{first.rows} rows, {first.k} examples each")
        table.add_column("selector")
        columns = ("gold@1", f"gold@{first.k}", "overlap", "labels", "tokens", "ms", "leaked")
        for name in columns:
            table.add_column(name, justify="right")
        for each in self.reports:
            shares = [f"{share:.3f}" for share in (each.gold_at_1, each.gold_at_k, each.overlap)]
            means = [f"{each.label_spread:.1f}", f"{each.tokens:.1f}", f"{each.milliseconds:.2f}"]
            table.add_row(each.spec, *shares, *means, str(each.leaked))
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
    """Find the selector whose examples have the outputs that are most similar to the correct ones.

    No language model is needed. Selectors are ranked by the output overlap, which for labels is the share of rows whose
    label is among the examples; ties are broken by the output of the best example, then by the order of ``specs``.

    Args:
        pool: The examples.
        dev: Rows with their correct outputs, which are not in the pool.
        k: Number of examples to select for each row.
        specs: Specs of the selectors to compare, as for `load_selector`.
        embedder: The embedder of the specs that need one, or its spec.
        key: The part of an input that is searched.
        output: The entry of a mapping that contains the answer.
        seed: The seed of the specs that need one.

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
