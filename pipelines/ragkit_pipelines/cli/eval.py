"""The command ``ragkit eval``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ragkit._files import make_folder, write_atomic
from ragkit.errors import InvalidInputError
from ragkit.evaluation import (
    Difference,
    MeasureReport,
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
from ragkit.protocols import Retriever
from ragkit.retrievers._loading import load_retrievers
from ragkit_pipelines.cli.common import (
    ApiKeyEnv,
    BaseUrl,
    Json,
    MaxReasoningTokens,
    Reasoning,
    echo,
    given_model,
    print_json,
    print_table,
)
from ragkit_pipelines.rag import ExtractiveReader, RetrieveThenAnswer
from ragkit_pipelines.rag.styles import StyleName
from ragkit_pipelines.rag_evaluation import (
    AnswerJudge,
    RagReport,
    evaluate_rag,
    qrels_of,
    read_judged_cases,
    read_questions,
)

_RETRIEVERS = "dense,bm25,hybrid"
_PIPELINE_RETRIEVER, _PASSAGES, _HITS = "hybrid", 5, 10


def evaluate(
    index: Annotated[Path | None, typer.Argument(help="Folder of an index; optional with --run.")] = None,
    *,
    qrels: Annotated[Path | None, typer.Option(help="Relevance judgements in TREC or BEIR format.")] = None,
    queries: Annotated[Path | None, typer.Option(help="Queries: JSON Lines, or lines of id, tab, text.")] = None,
    questions: Annotated[
        Path | None,
        typer.Option(help="Questions of ragkit data questions, instead of --qrels and --queries."),
    ] = None,
    retriever: Annotated[
        str | None,
        typer.Option(help="Retrievers, separated by commas: {retriever}. All by default; hybrid with --model."),
    ] = None,
    run: Annotated[list[Path] | None, typer.Option(help="TREC run file to evaluate; can be repeated.")] = None,
    k: Annotated[
        int | None, typer.Option(help="Number of hits per query; 10 by default, and 5 with --model.", min=1)
    ] = None,
    latency: Annotated[int, typer.Option(help="Number of queries to run one by one for the latency.")] = 50,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Also answer the questions: language model, or extractive."),
    ] = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    reasoning: Reasoning = None,
    max_reasoning_tokens: MaxReasoningTokens = None,
    style: Annotated[
        StyleName, typer.Option(help="Answers: a few words, sentences with citations, or in detail.")
    ] = "cited",
    judge: Annotated[
        str | None, typer.Option(help="Language model or reranker that judges faithfulness and relevance.")
    ] = None,
    labelled: Annotated[Path | None, typer.Option(help="Labelled cases on which the judge is calibrated.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for a run file, or the answers, of each retriever.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure retrievers by nDCG, MRR, MAP, recall and precision, or a whole RAG pipeline with its answers.

    Every retriever is compared with the first one by a paired test. With --model, the questions are also answered: the
    table then shows how often the source was retrieved, refusals, F1 and exact match if the answers are known, valid
    citations, and, with --judge, faithfulness, answer relevance and context precision.

    Example: ragkit eval docs.rag --queries queries.jsonl --qrels qrels.tsv

    Example: ragkit eval docs.rag --questions questions.jsonl --model smollm2 --judge openai:gpt-5-mini
    """
    if (questions is None) == (qrels is None):
        raise InvalidInputError("pass either --qrels, with --queries for an index, or --questions")
    _check_pipeline(model, judge, labelled, index=index, questions=questions)
    if model is not None and index is not None and questions is not None:
        loaded = given_model(None if model == "extractive" else model, base_url, api_key_env, reasoning,
                             max_reasoning_tokens)  # fmt: skip
        judging = AnswerJudge(judge) if judge else None
        if judging and labelled:
            judging = judging.calibrated(read_judged_cases(labelled))
        asked = read_questions(questions)
        with Index.open(index, read_only=True) as opened:
            answerer = loaded or ExtractiveReader(opened.embedder or "minilm")
            found = [
                evaluate_rag(RetrieveThenAnswer(answerer, each, k or _PASSAGES, style=style), asked, judge=judging)
                for each in _retrievers(retriever or _PIPELINE_RETRIEVER, opened)
            ]
        _save_answers(found, out)
        _show_pipelines(found, as_json=as_json)
        return
    reports = _retrieval(index, qrels, queries, questions, retriever or _RETRIEVERS, run or [], k or _HITS, latency)
    if out is not None:
        make_folder(out)
        for report in reports:
            write_run(out / f"{report.name}.trec", report.run, tag=report.name)
    _show(reports, as_json=as_json)


def _check_pipeline(
    model: str | None, judge: str | None, labelled: Path | None, *, index: Path | None, questions: Path | None
) -> None:
    if labelled is not None and judge is None:
        raise InvalidInputError("--labelled calibrates a judge; pass --judge too")
    if model is not None and (index is None or questions is None):
        raise InvalidInputError("--model answers questions from an index; pass the folder of the index and --questions")
    if judge is not None and model is None:
        raise InvalidInputError("--judge judges the answers of --model; pass --model too")


def _retrievers(names: str, index: Index) -> list[Retriever]:
    return load_retrievers([name.strip() for name in names.split(",")], index)


def _retrieval(
    index: Path | None, qrels: Path | None, queries: Path | None, questions: Path | None, retriever: str,
    run: Sequence[Path], k: int, latency: int,
) -> list[RetrievalReport]:  # fmt: skip
    """Evaluate runs, and the retrievers of an index on queries or on questions."""
    judgements = read_qrels(qrels) if qrels else {}
    if run and not qrels:
        raise InvalidInputError("--run is evaluated on relevance judgements; pass --qrels")
    reports = [evaluate_run(read_run(path), judgements, k, name=path.stem) for path in run]
    if index is not None:
        if queries is None and questions is None:
            raise InvalidInputError("an index is evaluated on queries; pass the file with --queries")
        asked = read_questions(questions) if questions else []
        texts = read_queries(queries) if queries else {each.id: each.text for each in asked}
        with Index.open(index, read_only=True) as opened:
            graded = judgements if qrels else qrels_of(asked, opened)
            reports += [
                evaluate_retrieval(each, texts, graded, k, latency=latency) for each in _retrievers(retriever, opened)
            ]
    if not reports:
        raise InvalidInputError("there is nothing to evaluate; pass an index or --run")
    return reports


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
    for report, difference in zip(reports, ["", *map(_shown, differences)], strict=True):
        times = f"{t.p50:.1f} / {t.p95:.1f} / {t.p99:.1f}" if (t := report.latency) else ""
        batch = "" if report.milliseconds is None else f"{report.milliseconds:.2f}"
        lines.append((report.name, *(f"{report[name]:.3f}" for name in report), batch, times, difference))
    print_table(columns, lines)


def _shown(difference: Difference) -> str:
    interval = f"({difference.low:+.3f} to {difference.high:+.3f})"
    return f"{difference.mean:+.3f} {interval}, p = {difference.p_value:.3f}"


def _show_pipelines(reports: Sequence[RagReport], *, as_json: bool) -> None:
    measures = [*dict.fromkeys(measure for report in reports for measure in report)]
    remarks = dict.fromkeys(remark for report in reports for remark in report.remarks)
    if as_json:
        rows = [
            {
                "name": report.name,
                "queries": report.queries,
                **report,
                "intervals": {measure: report.interval(measure) for measure in report},
                "judge": report.judge,
                "calibrations": {name: asdict(each) for name, each in report.calibrations.items()},
                "unreadable": report.unreadable,
            }
            for report in reports
        ]
        print_json({"rows": rows})
        return
    lines = [(measure, *(_with_interval(report, measure) for report in reports)) for measure in measures]
    print_table(("measure", *(report.name for report in reports)), lines)
    for remark in remarks:
        echo(remark)


def _with_interval(report: MeasureReport, measure: str) -> str:
    if measure not in report:
        return ""
    low, high = report.interval(measure)
    return f"{report[measure]:.3f} ({low:.3f} to {high:.3f}, n = {len(report.per_query[measure])})"


def _save_answers(reports: Iterable[RagReport], folder: Path | None) -> None:
    """Write the answers of each pipeline with their measures, one JSON object per line."""
    if folder is None:
        return
    make_folder(folder)
    for report in reports:
        lines = []
        for own, answer in report.answers.items():
            values = {measure: of[own] for measure, of in report.per_query.items() if own in of}
            passages = [{"id": hit.id, "span": hit.span, "text": hit.text} for hit in answer.hits]
            row = {"id": own, "question": answer.question, "answer": answer.text, "passages": passages, **values}
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        write_atomic(folder / f"{report.name}.answers.jsonl", "".join(lines))
