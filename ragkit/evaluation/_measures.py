"""Measures of retrieval quality on judged queries, and of latency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from typing_extensions import override

from ragkit._extras import require
from ragkit._progress import progress
from ragkit.errors import InvalidInputError
from ragkit.evaluation._trec import Qrels, Run
from ragkit.protocols import Retriever
from ragkit.retrievers._base import Where

_RESAMPLES = 2000
_NAMES = {"nDCG": "ndcg", "RR": "mrr", "AP": "map", "R": "recall", "P": "precision"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Percentiles of the time of single queries, in milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureReport(Mapping[str, float]):
    """Means over queries by name of the measure: ``report["mrr@10"]``; ``print`` shows them with 95 % intervals.

    Attributes:
        name: Name of the system that was measured.
        per_query: Values by measure and query.
    """

    name: str
    per_query: Mapping[str, Mapping[str, float]]

    @override
    def __getitem__(self, measure: str) -> float:
        return float(np.mean(list(self.per_query[measure].values())))

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self.per_query)

    @override
    def __len__(self) -> int:
        return len(self.per_query)

    def interval(self, measure: str, *, seed: int = 0) -> tuple[float, float]:
        """Return the 95 % interval of a mean, by the percentile bootstrap over queries.

        Args:
            measure: Name of the measure.
            seed: Seed of the resampling.

        Returns:
            Its lower and upper end. It is too narrow if there are only a few queries.
        """
        values = np.array(list(self.per_query[measure].values()))
        rng = np.random.default_rng(seed)
        # One resample at a time, because all of them together take gigabytes for a large benchmark.
        means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(_RESAMPLES)]
        low, high = np.percentile(means, [2.5, 97.5]).tolist()
        return low, high

    @property
    def queries(self) -> int:
        """Number of queries."""
        return max(map(len, self.per_query.values()), default=0)

    def __str__(self) -> str:
        lines, width = [f"{self.name}: means with 95 % intervals, queries: {self.queries}"], max(14, *map(len, self))
        for measure, mean in self.items():
            low, high = self.interval(measure)
            lines.append(f"{measure:<{width}} {mean:.3f} [{low:.3f}, {high:.3f}]")
        return "\n".join(lines)

    def __repr__(self) -> str:
        means = "".join(f", {measure}={mean:.3f}" for measure, mean in self.items())
        return f"{type(self).__name__}({self.name!r}, queries={self.queries}{means})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RetrievalReport(MeasureReport):
    """The measures of a retriever or a run: means over the judged queries by name of the measure.

    Attributes:
        name: Name of the retriever or run.
        per_query: Values by measure and query.
        k: Number of hits evaluated per query.
        run: The rankings.
        milliseconds: Time per query in a batch; None for a run that was read from a file.
        latency: Times of single queries, if they were measured.
    """

    k: int
    run: Run
    milliseconds: float | None = None
    latency: Latency | None = None


def evaluate_retrieval(
    retriever: Retriever,
    queries: Mapping[str, str],
    qrels: Qrels,
    k: int = 10,
    *,
    where: Where | None = None,
    batch_size: int = 64,
    latency: int = 0,
) -> RetrievalReport:
    """Evaluate a retriever on judged queries.

    The measures are nDCG (gain is the grade), mean reciprocal rank, mean average precision, recall and precision, all
    at k, computed by ir-measures. A query without hits scores 0, and queries without a relevant document are excluded.

    Args:
        retriever: The retriever.
        queries: Texts by id, such as from `read_queries`.
        qrels: Grades by query and document, such as from `read_qrels`.
        k: Number of hits evaluated per query, at least 1.
        where: A filter on metadata.
        batch_size: Queries per batch, at least 1.
        latency: Number of queries that are also run one by one, to measure their time.

    Returns:
        The means, with the values of each query, the rankings and times.

    Raises:
        InvalidInputError: If an argument is invalid, or if no query is judged.
    """
    if type(batch_size) is not int or batch_size < 1 or type(latency) is not int or latency < 0:
        raise InvalidInputError(
            f"`batch_size` must be at least 1 and `latency` at least 0, got {batch_size!r} and {latency!r}"
        )
    names = _judged(queries, qrels, k)
    run: dict[str, list[tuple[str, float]]] = {}
    seconds = 0.0
    with progress("asking queries", len(names)) as advance:
        for start in range(0, len(names), batch_size):
            part = names[start : start + batch_size]
            began = perf_counter()
            found = retriever.retrieve([queries[name] for name in part], k, where=where)
            seconds += perf_counter() - began
            run |= {name: [(hit.id, hit.score) for hit in hits] for name, hits in zip(part, found, strict=True)}
            advance(len(part))
    own = getattr(retriever, "name", None)
    return RetrievalReport(
        name=own if isinstance(own, str) else type(retriever).__name__,
        k=k,
        per_query=_values(run, {name: qrels[name] for name in names}, k),
        run=run,
        milliseconds=1000 * seconds / len(names),
        latency=_latency(retriever, [queries[name] for name in names[:latency]], k, where),
    )


def evaluate_run(run: Run, qrels: Qrels, k: int = 10, *, name: str = "run") -> RetrievalReport:
    """Evaluate rankings, such as those from `read_run`.

    Args:
        run: Documents with scores for each query, best first.
        qrels: Grades by query and document.
        k: Number of hits evaluated per query, at least 1.
        name: Name of the run.

    Returns:
        The means over the judged queries; queries that are missing in the run score 0.
    """
    names = _judged(dict.fromkeys(qrels, ""), qrels, k)
    kept = {query: list(run.get(query, ()))[:k] for query in names}
    return RetrievalReport(
        name=name, k=k, per_query=_values(kept, {query: qrels[query] for query in names}, k), run=kept
    )


def _judged(queries: Mapping[str, str], qrels: Qrels, k: int) -> list[str]:
    """Return the queries that have a relevant document."""
    if type(k) is not int or k < 1:
        raise InvalidInputError(f"`k` must be a whole number of at least 1, got {k!r}")
    names = [name for name in queries if any(grade > 0 for grade in qrels.get(name, {}).values())]
    if not names:
        raise InvalidInputError(
            f"none of {len(queries)} queries has a relevant document among the {len(qrels)} judged; do the ids match?"
        )
    return names


def _values(run: Run, qrels: Qrels, k: int) -> dict[str, dict[str, float]]:
    """Compute each measure for each query, from the order of the hits and not their scores, which may be equal."""
    require("ir_measures")
    import ir_measures
    from ir_measures import AP, RR, P, R, nDCG

    found = {f"{name}@{k}": dict.fromkeys(qrels, 0.0) for name in _NAMES.values()}
    ranks = {query: {own: float(-rank) for rank, (own, _) in enumerate(hits)} for query, hits in run.items() if hits}
    if ranks:
        graded = {query: dict(grades) for query, grades in qrels.items()}
        for each in ir_measures.iter_calc([nDCG @ k, RR, AP @ k, R @ k, P @ k], graded, ranks):
            found[f"{_NAMES[each.measure.NAME]}@{k}"][each.query_id] = float(each.value)
    return found


def _latency(retriever: Retriever, queries: list[str], k: int, where: Where | None) -> Latency | None:
    if not queries:
        return None
    retriever.retrieve(queries[0], k, where=where)  # excludes the loading time of the first call
    times = []
    for query in queries:
        began = perf_counter()
        retriever.retrieve(query, k, where=where)
        times.append(1000 * (perf_counter() - began))
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
    return Latency(p50=p50, p95=p95, p99=p99)
