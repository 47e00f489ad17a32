"""The commands ``ragkit select`` and ``ragkit pool check``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ragkit._progress import progress
from ragkit._task_files import read_objects
from ragkit.records import Selection
from ragkit_pipelines.cli.common import (
    Embedder,
    Json,
    OutputField,
    Where,
    console,
    print_json,
    print_table,
    read_filter,
)
from ragkit_selectors.loading import load_selector
from ragkit_selectors.near_duplicates import Pair
from ragkit_selectors.pool_check import PoolCheck, check_pool

pool_app = typer.Typer(help="Check a pool of examples for duplicates, contradictions and leaks.", no_args_is_help=True)

_Key = Annotated[str, typer.Option(help="Text that is compared: input, or one field of the input.")]
_Row = dict[str, object]
_SPECS = "Selectors: {selector}. Stages: {stage}."


def select(
    pool: Annotated[Path, typer.Option(help="JSON Lines or CSV file; rows of a test split are excluded.")],
    query: Annotated[str, typer.Option(help="Query to select examples for.")],
    selector: Annotated[str, typer.Option(help="Selector and stages: bm25 | guard | mmr:0.5. " + _SPECS)] = "bm25",
    k: Annotated[int, typer.Option(help="Number of examples.")] = 8,
    where: Where = None,
    key: _Key = "input",
    output: OutputField = "output",
    embedder: Embedder = "minilm",
    *,
    explain: Annotated[bool, typer.Option("--explain", help="Show why examples were selected or excluded.")] = False,
    as_json: Json = False,
) -> None:
    """Select in-context examples for one query.

    Example: ragkit select --pool banking77.jsonl --query "where is my card" --selector "bm25 | guard" --explain
    """
    rows = [row for row in _rows(pool) if row.get("split", "train") == "train"]
    condition = read_filter(where)
    with progress("selecting", None):
        loaded = load_selector(selector, rows, key=key, output=output, embedder=embedder)
        selection = loaded.select(query, k, where=condition)
    if as_json:
        print_json(_facts(selection))
        return
    columns = ("rank", "id", "score", "input", "output", "why")[: 6 if explain else 5]
    cells = [
        (str(hit.rank), hit.id, f"{hit.score:.3f}", hit.text, example.output, _reason(hit.why))[: len(columns)]
        for hit, example in zip(selection.hits, selection, strict=True)
    ]
    print_table(columns, cells)
    for name, reason in selection.dropped if explain else ():
        typer.echo(f"excluded {name}: {reason}")


@pool_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="JSON Lines or CSV file; rows of a test split are searched for leaks.")],
    near: Annotated[float, typer.Option(help="Jaccard similarity of near-duplicates.")] = 0.9,
    show: Annotated[int, typer.Option(help="Number of findings of each kind to print.")] = 3,
    key: _Key = "input",
    output: OutputField = "output",
    *,
    as_json: Json = False,
) -> None:
    """Find duplicates, contradictions and leaked test rows.

    Example: ragkit pool check banking77.jsonl
    """
    rows = _rows(file)
    pool = [row for row in rows if row.get("split", "train") == "train"]
    test = [row for row in rows if row.get("split") == "test"]
    with progress("checking", None):
        found = check_pool(pool, test, near=near, key=key, output=output)
    if as_json:
        print_json(asdict(found))
        return
    _show(found, pool, test, key=key, output=output, show=show)


def _rows(path: Path) -> list[_Row]:
    """Read the rows of a file; integer ids become strings."""
    return [row | {"id": str(row["id"])} if type(row.get("id")) is int else row for row in read_objects(path)]


def _show(found: PoolCheck, pool: Sequence[_Row], test: Sequence[_Row], *, key: str, output: str, show: int) -> None:
    shown = console()
    shown.print(f"{found.rows} rows in the pool, {found.test_rows} test rows, {len(found.labels)} different outputs")
    kinds: list[tuple[str, tuple[Pair, ...], Sequence[_Row]]] = [
        ("duplicates, ignoring case and punctuation", found.duplicates, pool),
        ("near-duplicates", found.near_duplicates, pool),
        ("conflicts: duplicates or near-duplicates with different outputs", found.conflicts, pool),
        ("leaked test rows: the same row is in the pool", found.leaks, test),
        ("near-leaked test rows: a near-duplicate is in the pool", found.near_leaks, test),
    ]
    if not found.near_searched:
        shown.print("near-duplicates were not searched, because too many rows consist of the same words")
    for title, pairs, other in kinds:
        shown.print(f"[bold]{len(pairs)}[/] {title}")
        for pair in pairs[:show]:
            for index, row in ((pair.first, pool[pair.first]), (pair.second, other[pair.second])):
                text = row.get(key, row.get("input", row))
                shown.print(escape(f"  {index}: {text!r} -> {row.get(output)!r}"))
    if len(found.labels) < found.rows / 2:
        (most, count), (least, fewest) = found.labels[0], found.labels[-1]
        shown.print(escape(f"most frequent output: {most!r} ({count}); least frequent: {least!r} ({fewest})"))


def _facts(selection: Selection) -> dict[str, object]:
    hits = [
        {"id": hit.id, "rank": hit.rank, "score": hit.score, "input": hit.text, "output": example.output}
        | {"why": dict(hit.why)}
        for hit, example in zip(selection.hits, selection, strict=True)
    ]
    return {"hits": hits, "dropped": selection.dropped, "tokens": selection.tokens}


def _reason(why: object) -> str:
    return ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name}: {' '.join(map(str, value))}"
        for name, value in dict(why).items()  # type: ignore[call-overload]
    )
