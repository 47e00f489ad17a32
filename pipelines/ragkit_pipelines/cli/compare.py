"""The commands ``ragkit compare`` and ``ragkit compare show|open|diff|resume``; `compare_files` has the others."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ragkit._extras import is_installed
from ragkit._files import write_atomic
from ragkit._progress import progress
from ragkit.errors import InvalidInputError
from ragkit.models import default_model
from ragkit_pipelines.cli.common import (
    ApiKeyEnv,
    BaseUrl,
    Embedder,
    Engine,
    InputField,
    Json,
    MaxCalls,
    MaxMoney,
    MaxReasoningTokens,
    MaxTokens,
    OutputField,
    Reasoning,
    Workers,
    console,
    echo,
    echo_json,
    print_json,
    print_table,
    worker_pool,
)
from ragkit_pipelines.cli.compare_files import export, judge
from ragkit_pipelines.cli.comparison_request import Request, estimate_request, read_request, run_request
from ragkit_pipelines.cli.components import ListingGroup, list_descriptions

if TYPE_CHECKING:
    from ragkit.workers import WorkerPool
    from ragkit_pipelines.compare import Comparison, Estimate
    from ragkit_pipelines.compare.results import Results

compare_app = typer.Typer(invoke_without_command=True, cls=ListingGroup)
for _command in (judge, export):
    compare_app.command()(_command)

_SIZES = (
    "Pool sizes, such as 77,770,all. Default: one example per label, ten per label, and all; without labels, only all. "
    "All strategies run again for each size, which multiplies the cost."
)
_OUT = "Folder for results; rerun the command to resume. Default: runs/<name of the data file>-<date>."
_Folder = Annotated[Path, typer.Argument(help="Folder of a comparison.")]


@compare_app.callback()
def compare(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="Rows: JSON Lines, CSV, Excel or Parquet, or hub:<id>.")] = None,
    fields: InputField = "input",
    output: OutputField = "output",
    strategies: Annotated[
        str | None, typer.Option(help="Strategies, separated by commas, or list to describe them: {strategy}.")
    ] = None,
    sizes: Annotated[str | None, typer.Option(help=_SIZES)] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0",
    vary: Annotated[str, typer.Option(help="What the seeds vary; the rest keeps the first seed.")] = "data,model,order",
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of test rows, drawn with the seed.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Language model, such as smollm2.")] = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    reasoning: Reasoning = None,
    max_reasoning_tokens: MaxReasoningTokens = None,
    embedder: Embedder = "minilm",
    instruction: Annotated[str, typer.Option(help="Instruction for the model.")] = "",
    metric: Annotated[str | None, typer.Option(help="Metric: {metric}.")] = None,
    k: Annotated[int | None, typer.Option(min=1, help="Number of examples, or of passages of rag; or @<k>.")] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Answers sampled per row for a majority vote, each at full cost; or *<n>.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs of strategies that train.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of tokens per answer in free text.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Number of settings to try per strategy on held-out examples.")] = 0,
    docs: Annotated[Path | None, typer.Option(help="Folder or file from which rag and pearl retrieve.")] = None,
    checks: Annotated[
        Literal["report", "clean", "off"], typer.Option(help="Data checks: clean also removes the affected rows.")
    ] = "report",
    margin: Annotated[
        float, typer.Option(help="Loss of score that does not matter to the recommendation: 0.01 is one point.")
    ] = 0.01,
    label_price: Annotated[float | None, typer.Option(help="Price of one labelled example in US dollars.")] = None,
    prices: Annotated[Path | None, typer.Option(help="JSON file with token prices; see docs/comparison.md.")] = None,
    calls: MaxCalls = None,
    tokens: MaxTokens = None,
    money: MaxMoney = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help=_OUT)] = None,
    tracker: Annotated[str | None, typer.Option(help="Experiment tracker that logs the results: {tracker}.")] = None,
    engine: Engine = "inline",
    workers: Workers = 2,
    poll_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds between two requests for the status of a batch, with --batch.")
    ] = 30.0,
    *,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch", help="Submit model calls of OpenAI or Anthropic as batches: half the cost, up to a day each."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Submit batches without showing their cost first.")] = False,
    normalise_labels: Annotated[
        bool, typer.Option("--normalise-labels", help="Merge labels that differ only in case or spaces.")
    ] = False,
    only_estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Try a few rows, print the expected time, calls, tokens and cost, and stop."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare strategies on one task, and show finished comparisons.

    Example: ragkit compare --data banking77.jsonl --strategies tfidf,vote:bm25 --sizes 77,770,all --out runs/banking
    Example: ragkit compare --data banking77.jsonl --engine process --workers 4
    Example: ragkit compare --data banking77.jsonl --model smollm2 --estimate
    """
    if context.invoked_subcommand is not None:
        return
    if strategies == "list":
        list_descriptions("strategy", as_json=as_json)
        return
    if data is None:
        raise InvalidInputError(
            "pass the rows to compare on with --data FILE, or use one of the subcommands show, open, diff, judge, "
            "export and resume"
        )
    request = Request(
        data=data, input=fields, output=output, strategies=strategies, sizes=sizes, seeds=seeds, model=model,
        embedder=embedder, instruction=instruction, metric=metric, trials=trials, docs=docs, checks=checks,
        label_price=label_price, prices=prices, vary=vary, base_url=base_url, api_key_env=api_key_env,
        reasoning=reasoning, max_reasoning_tokens=max_reasoning_tokens, limit=limit, k=k, samples=samples,
        epochs=epochs, max_tokens=max_tokens, margin=margin, budget_calls=calls, budget_tokens=tokens,
        budget_money=money, normalise_labels=normalise_labels, batch=batch, poll_seconds=poll_seconds,
        tracker=tracker,
    )  # fmt: skip
    if only_estimate:
        _show_estimate(estimate_request(request), as_json=as_json)
        return
    pool = worker_pool(engine, workers)
    if batch and not yes:
        _confirm_cost(request)
    _run(request, out, pool, as_json=as_json)


@compare_app.command()
def resume(
    folder: _Folder,
    engine: Engine = "inline",
    workers: Workers = 2,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Load what the folder names without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Resume an interrupted comparison without repeating finished strategies.

    The files and models that the folder names are shown before they are loaded.

    Example: ragkit compare resume runs/banking
    """
    request = read_request(folder)
    named = {name: str(value) for name, value in request.model_dump(exclude_none=True).items() if value != ""}
    print_table((), named.items(), stderr=True)
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidInputError(
                f"{folder} names the files and models above; check them, and pass --yes to load them"
            )
        if not typer.confirm("Load these files and models, and resume?", err=True):
            raise typer.Exit(1)
    _run(request, folder, worker_pool(engine, workers), as_json=as_json)


@compare_app.command()
def show(
    folder: _Folder,
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the whole report as Markdown.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the report to this file as one HTML page.")] = None,
    as_json: Json = False,
) -> None:
    """Show a finished comparison.

    Example: ragkit compare show runs/banking --html banking.html
    """
    from ragkit_pipelines.compare.predictions import Items
    from ragkit_pipelines.compare.reports.html import html_report
    from ragkit_pipelines.compare.reports.markdown import markdown_report
    from ragkit_pipelines.compare.results import Results

    results = Results.load(folder)
    if html is not None:
        write_atomic(html, html_report(results, Items.load(folder)))
        echo(f"Written to {html}")
    elif as_json:
        echo_json(results.model_dump_json(indent=1))
    elif markdown:
        echo(markdown_report(results, Items.load(folder)), nl=False)
    else:
        _print(results)


@compare_app.command("open")
def open_report(folder: _Folder) -> None:
    """Write the HTML report of a finished comparison again, and open it in the browser.

    The report is the file report.html in the folder of the comparison.

    Example: ragkit compare open runs/banking
    """
    import webbrowser

    from ragkit_pipelines.compare.predictions import Items
    from ragkit_pipelines.compare.reports.html import html_report
    from ragkit_pipelines.compare.results import Results

    page = folder.resolve() / "report.html"
    write_atomic(page, html_report(Results.load(folder), Items.load(folder)))
    if webbrowser.open(page.as_uri()):
        echo(f"Opened {page}")
    else:
        echo(f"No browser was found. The report is {page}")


@compare_app.command()
def diff(before: _Folder, after: _Folder, *, as_json: Json = False) -> None:
    """Show the differences between two comparisons for each strategy.

    If both have the same test rows, results are compared item by item, otherwise by their means.

    Example: ragkit compare diff runs/monday runs/friday
    """
    from ragkit_pipelines.compare.reports.diff import changes

    found = changes(before, after)
    if as_json:
        print_json([each.model_dump() for each in found])
        return
    table = Table("strategy", "pool", "before", "after", "change, 95 % interval", "p", "test")
    for each in found:
        change = "" if each.change is None else f"{each.change:+.3f}"
        change += "" if each.low is None else f" [{each.low:+.3f}, {each.high:+.3f}]"
        scores = ["" if score is None else f"{score:.3f}" for score in (each.before, each.after)]
        p = "" if each.p is None else f"{each.p:.2g}"
        table.add_row(escape(each.strategy), str(each.size), *scores, change, p, each.compared)
    console().print(table)


def _run(request: Request, out: Path | None, workers: WorkerPool | None, *, as_json: bool) -> None:
    result = run_request(request, out, workers)
    if request.model is None and any(row.prompt_tokens for row in result.results.rows):
        echo(
            f"--model was not given, so {default_model()} was used: a small model, which says little about large ones.",
            err=True,
        )
    show_comparison(result, as_json=as_json)


def _confirm_cost(request: Request) -> None:
    """Show the highest cost of a comparison in batch mode, and ask whether to run it.

    Raises:
        InvalidInputError: If nobody can be asked.
        typer.Exit: If the answer is no.
    """
    if not sys.stdin.isatty():
        raise InvalidInputError(
            "--batch submits calls that cost money; see their cost with --estimate, and pass --yes to submit them"
        )
    found = estimate_request(request)
    headings, *lines = found.table()
    print_table(headings, lines, stderr=True)
    for each in (*found.failures(), f"{found.summary}."):
        echo(each, err=True)
    if not typer.confirm("Each answer is estimated at its maximum length. Submit these calls?", err=True):
        raise typer.Exit(1)


def _show_estimate(found: Estimate, *, as_json: bool) -> None:
    """Print an estimate.

    Raises:
        typer.Exit: If strategies failed, after their errors were printed: with code 2 if all did, otherwise 1.
    """
    if as_json:
        print_json({**asdict(found), "total": asdict(found.total)})
    else:
        headings, *lines = found.table()
        print_table(headings, lines)
        echo(f"{found.summary}.")
    for failure in found.failures():
        echo(failure, err=True)
    if found.failed:
        raise typer.Exit(2 if len(found.failed) == len(found.strategies) else 1)


def show_comparison(result: Comparison, *, as_json: bool) -> None:
    """Print a new comparison, and write its HTML report if the extra ``report`` is installed.

    Raises:
        typer.Exit: If strategies failed, after their errors were printed: with code 2 if all did, otherwise 1.
    """
    page = None
    if result.folder and is_installed("jinja2"):
        page = result.folder / "report.html"
        with progress("drawing the report", None):
            write_atomic(page, result.html())
    if as_json:
        echo_json(result.results.model_dump_json(indent=1))
    else:
        shown = _print(result.results)
        if result.folder:
            shown.print(f"Written to {result.folder / 'results.json'}" + (f" and {page}" if page else ""))
    failed = [row for row in result.results.rows if row.error]
    for row in failed:
        echo(f"failed: {row.strategy}, pool {row.size}: {row.error}", err=True)
    if failed:
        raise typer.Exit(2 if len(failed) == len(result.results.rows) else 1)


def _print(results: Results) -> Console:
    from ragkit_pipelines.compare.reports.tables import data_lines, warning_lines

    shown = console()
    shown.print(results.table())
    if results.leaked_test_rows:
        shown.print(f"{results.leaked_test_rows} test rows also appeared in the pool and were excluded.")
    for line in warning_lines(results):
        shown.print(f"Warning: {line}.", markup=False)
    for line in data_lines(results):
        shown.print(f"Data: {line}.", markup=False)
    chosen = results.recommendation
    shown.print(f"Recommendation: [bold]{escape(chosen.strategy or 'none')}[/]. {escape(chosen.evidence)}.")
    return shown
