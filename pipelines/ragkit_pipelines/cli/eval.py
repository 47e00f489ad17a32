"""The command line of retrieval: ``ragkit eval``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional, TypeVar

import typer
from rich.table import Table

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
from ragkit.retrievers.loading import load_retrievers
from ragkit_pipelines.cli.select import console_of_width

T = TypeVar("T")


def evaluate(
    index: Annotated[Optional[Path], typer.Argument(help="Folder of an index; none to measure run files.")] = None,  # noqa: UP045
    *,
    qrels: Annotated[Path, typer.Option(help="Judgements, of TREC or BEIR.")],
    queries: Annotated[Optional[Path], typer.Option(help="Queries: JSON lines, or id, tab, text.")] = None,  # noqa: UP045
    retriever: Annotated[str, typer.Option(help="Retrievers, separated by commas: {retriever}.")] = "dense,bm25,hybrid",
    run: Annotated[Optional[list[Path]], typer.Option(help="A run file of TREC; several times for several.")] = None,  # noqa: UP045
    k: Annotated[int, typer.Option(help="How many hits count.")] = 10,
    latency: Annotated[int, typer.Option(help="Queries that are asked one by one to time them.")] = 50,
    out: Annotated[Optional[Path], typer.Option(help="Folder for a run file of each retriever.")] = None,  # noqa: UP045
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure retrieval: nDCG, MRR, MAP, recall and precision, each against the first by a paired test.

    Example: ragkit eval docs.rag --queries queries.jsonl --qrels qrels.tsv
    """
    judged = read_qrels(qrels)
    reports = [evaluate_run(read_run(path), judged, k, name=path.stem) for path in run or []]
    if index is not None:
        asked = read_queries(_given(queries, "an index is measured with --queries; give the file"))
        with Index.open(index, read_only=True) as opened:
            reports += [
                evaluate_retrieval(each, asked, judged, k, latency=latency)
                for each in load_retrievers([name.strip() for name in retriever.split(",")], opened)
            ]
    _given(reports, "there is nothing to measure; give an index or --run")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for report in reports:
            write_run(out / f"{report.name}.trec", report.run, tag=report.name)
    _show(reports, as_json=as_json)


def _given(value: T | None, message: str) -> T:
    if not value:
        raise InvalidInputError(message)
    return value


def _show(reports: Sequence[RetrievalReport], *, as_json: bool) -> None:
    against = [compare_retrieval(report, reports[0]) for report in reports[1:]]
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
        typer.echo(json.dumps({"rows": rows, "against_the_first": [asdict(each) for each in against]}, indent=1))
        return
    table = Table("retriever", *reports[0], "ms in a batch", "p50 / p95 / p99 ms", "against the first")
    for place, report in enumerate(reports):
        times = f"{t.p50:.1f} / {t.p95:.1f} / {t.p99:.1f}" if (t := report.latency) else ""
        batch = "" if report.milliseconds is None else f"{report.milliseconds:.2f}"
        versus = ""
        if place:
            each = against[place - 1]
            versus = f"{each.mean:+.3f} ({each.low:+.3f} to {each.high:+.3f}), p = {each.p_value:.3f}"
        table.add_row(report.name, *(f"{report[name]:.3f}" for name in report), batch, times, versus)
    console_of_width().print(table)
