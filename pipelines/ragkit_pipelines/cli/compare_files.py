"""The commands ``ragkit compare judge|export``, which exchange results with other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ragkit.errors import InvalidInputError
from ragkit_pipelines.cli.common import Json, console, echo, echo_json, print_json


def judge(
    files: Annotated[
        list[Path], typer.Argument(help="Result files, or folders of comparisons, with two runs or more.")
    ],
    metric: Annotated[str | None, typer.Option(help="Metric, if a file contains several, such as acc.")] = None,
    margin: Annotated[
        float, typer.Option(help="Loss of score that does not matter to the recommendation: 0.01 is one point.")
    ] = 0.01,
    *,
    as_json: Json = False,
) -> None:
    """Compare result files with each other, also those of other programs, on the test rows that they share.

    Reads folders of comparisons, samples_*.jsonl of lm-evaluation-harness (--log_samples), and results of promptfoo in
    JSON. Shows scores with intervals, paired tests with Holm's correction, and a recommendation.

    Example: ragkit compare judge out/small/samples_gsm8k_1.jsonl out/large/samples_gsm8k_2.jsonl --metric exact_match
    Example: ragkit compare judge before.json after.json
    """
    from ragkit_pipelines.compare.judging import judge_files

    found = judge_files(files, metric=metric, margin=margin)
    if as_json:
        echo_json(found.results.model_dump_json(indent=1))
        return
    shown = console()
    shown.print(found.table())
    for line in found.sentences():
        shown.print(line, markup=False)


def export(
    folder: Annotated[Path, typer.Argument(help="Folder of a comparison.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File, or folder for trec; items.csv and so on in the folder by default."),
    ] = None,
    format_: Annotated[
        Literal["csv", "parquet", "trec"] | None, typer.Option("--format", help="Format; by default that of --out.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Export every answer of a finished comparison as CSV, Parquet or TREC runs.

    CSV and Parquet have one line per test row, strategy, pool size and seed. TREC is a folder with one run each, and
    the expected outputs as qrels.txt.

    Example: ragkit compare export runs/banking --out banking.parquet
    Example: ragkit compare export runs/banking --format trec --out banking-trec
    """
    from ragkit_pipelines.compare.exporting import FORMATS, export_items
    from ragkit_pipelines.compare.predictions import Items

    chosen = format_ or next((each for each in FORMATS if out is not None and out.suffix == f".{each}"), None)
    if chosen is None:
        raise InvalidInputError(
            f"pass --format with one of {', '.join(FORMATS)}, or --out with a file such as items.csv"
        )
    written = export_items(Items.load(folder), out or folder / f"items.{chosen}", format=chosen)
    if as_json:
        print_json([str(path) for path in written])
        return
    for path in written:
        echo(f"Written to {path}")
