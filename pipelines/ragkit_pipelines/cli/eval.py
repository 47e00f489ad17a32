"""The command ``ragkit eval``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ragkit._files import make_folder
from ragkit.errors import InvalidInputError
from ragkit.evaluation import (
    RetrievalReport,
    compare_retrieval,
    evaluate_retrieval,
    evaluate_run,
    read_qrels,
    read_queries,
    read_run,
    write_run,
)
from ragkit.index import Index
from ragkit.retrievers._loading import load_retrievers
from ragkit_pipelines.cli.common import Json, print_json, print_table


def evaluate(
    index: Annotated[Path | None, typer.Argument(help="Folder of an index; optional with --run.")] = None,
    *,
    qrels: Annotated[Path, typer.Option(help="Relevance judgements in TREC or BEIR format.")],
    queries: Annotated[Path | None, typer.Option(help="Queries: JSON Lines, or lines of id, tab, text.")] = None,
    retriever: Annotated[str, typer.Option(help="Retrievers, separated by commas: {retriever}.")] = "dense,bm25,hybrid",
    run: Annotated[list[Path] | None, typer.Option(help="TREC run file to evaluate; can be repeated.")] = None,
    k: Annotated[int, typer.Option(help="Number of hits per query that are evaluated.")] = 10,
    latency: Annotated[int, typer.Option(help="Number of queries to run one by one for the latency.")] = 50,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder in which to write a run file per retriever.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure the nDCG, MRR, MAP, recall and precision of retrievers.

    Every retriever is compared with the first one by a paired test.

    Example: ragkit eval docs.rag --queries queries.jsonl --qrels qrels.tsv
    """
    judgements = read_qrels(qrels)
    reports = [evaluate_run(read_run(path), judgements, k, name=path.stem) for path in run or []]
    if index is not None:
        if queries is None:
            raise InvalidInputError("an index is evaluated on queries; pass the file with --queries")
        texts = read_queries(queries)
        with Index.open(index, read_only=True) as opened:
            reports += [
                evaluate_retrieval(each, texts, judgements, k, latency=latency)
                for each in load_retrievers([name.strip() for name in retriever.split(",")], opened)
            ]
    if not reports:
        raise InvalidInputError("there is nothing to evaluate; pass an index or --run")
    if out is not None:
        make_folder(out)
        for report in reports:
            write_run(out / f"{report.name}.trec", report.run, tag=report.name)
    _show(reports, as_json=as_json)


def _show(reports: Sequence[RetrievalReport], *, as_json: bool) -> None:
    differences = [compare_retrieval(report, reports[0]) for report in reports[1:]]
    if as_json:
        rows = [
            {
                "name": report.name,
                "queries": len(next(iter(report.per_query.values()))),
                **report,
                "milliseconds": report.milliseconds,
                "latency": asdict(report.latency) if report.latency else None,
            }
            for report in reports
        ]
        print_json({"rows": rows, "against_the_first": [asdict(each) for each in differences]})
        return
    columns, lines = ("retriever", *reports[0], "ms per query", "p50 / p95 / p99 ms", "difference from the first"), []
    shown = [f"{d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f}), p = {d.p_value:.3f}" for d in differences]
    for report, difference in zip(reports, ["", *shown], strict=True):
        times = f"{t.p50:.1f} / {t.p95:.1f} / {t.p99:.1f}" if (t := report.latency) else ""
        batch = "" if report.milliseconds is None else f"{report.milliseconds:.2f}"
        lines.append((report.name, *(f"{report[name]:.3f}" for name in report), batch, times, difference))
    print_table(columns, lines)
