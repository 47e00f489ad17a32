"""The command line of selectors: ``ragkit select`` and ``ragkit pool check``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ragkit.errors import InvalidInputError
from ragkit.progress import progress
from ragkit.records import Selection
from ragkit.task_files import read_objects
from ragkit.text import read_json
from ragkit_selectors.loading import load_selector
from ragkit_selectors.pool_check import Pair, PoolCheck, check_pool

pool_app = typer.Typer(help="Look after a pool of examples.", no_args_is_help=True)

_Key = Annotated[str, typer.Option(help="What is searched: input, or one of its fields.")]
_Output = Annotated[str, typer.Option(help="The field that holds the answer.")]
_SPECS = "Selectors: {selector}. Stages: {stage}."
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def select(
    pool: Annotated[Path, typer.Option(help="JSON lines or CSV; rows of a test split are left out.")],
    query: Annotated[str, typer.Option(help="What to find examples for.")],
    selector: Annotated[str, typer.Option(help="A selector and stages: bm25 | guard | mmr:0.5. " + _SPECS)] = "bm25",
    k: Annotated[int, typer.Option(help="How many.")] = 8,
    where: Annotated[Optional[str], typer.Option(help='Metadata filter as JSON: {"lang": "en"}.')] = None,  # noqa: UP045
    key: _Key = "input",
    output: _Output = "output",
    embedder: Annotated[str, typer.Option(help="Embedder: {embedder}.")] = "minilm",
    *,
    explain: Annotated[bool, typer.Option("--explain", help="Say why each was chosen, and what was left out.")] = False,
    as_json: _Json = False,
) -> None:
    """Choose examples for one query.

    Example: ragkit select --pool banking77.jsonl --query "where is my card" --selector "bm25 | guard" --explain
    """
    rows = [row for row in _rows(pool) if row.get("split", "train") == "train"]
    condition = None if where is None else read_condition(where)
    with progress("choosing", None):
        ready = load_selector(selector, rows, key=key, output=output, embedder=embedder)
        chosen = ready.select(query, k, where=condition)
    if as_json:
        typer.echo(json.dumps(_as_json(chosen), ensure_ascii=False, indent=1))
        return
    console = console_of_width()
    table = Table("rank", "id", "score", "input", "output", *(["why"] if explain else []))
    for hit, example in zip(chosen.hits, chosen, strict=True):
        why = [escape(_reason(hit.why))] if explain else []
        table.add_row(str(hit.rank), escape(hit.id), f"{hit.score:.3f}", escape(hit.text), escape(example.output), *why)
    console.print(table)
    if explain:
        for name, reason in chosen.dropped:
            console.print(escape(f"left out {name}: {reason}"))


@pool_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="JSON lines or CSV; rows of a test split are looked for in the rest.")],
    near: Annotated[float, typer.Option(help="Jaccard likeness from which texts are nearly the same.")] = 0.9,
    show: Annotated[int, typer.Option(help="How many findings of each kind are shown.")] = 3,
    key: _Key = "input",
    output: _Output = "output",
    *,
    as_json: _Json = False,
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
        typer.echo(json.dumps(asdict(found), ensure_ascii=False, indent=1))
        return
    _show(console_of_width(), found, pool, test, key=key, show=show)


def _rows(path: Path) -> list[dict[str, object]]:
    """The rows of a file; a number is taken for a name, as elsewhere in files."""
    return [row | {"id": str(row["id"])} if type(row.get("id")) is int else row for row in read_objects(path)]


def _show(
    console: Console,
    found: PoolCheck,
    pool: Sequence[dict[str, object]],
    test: Sequence[dict[str, object]],
    *,
    key: str,
    show: int,
) -> None:
    console.print(f"{found.rows} rows in the pool, {found.test_rows} test rows, {len(found.labels)} different outputs")
    kinds: list[tuple[str, tuple[Pair, ...], Sequence[dict[str, object]]]] = [
        ("duplicates but for case and punctuation", found.duplicates, pool),
        ("near-duplicates", found.near_duplicates, pool),
        ("conflicts: same or nearly the same, but other outputs", found.conflicts, pool),
        ("test rows that stand in the pool", found.leaks, test),
        ("test rows that nearly stand in the pool", found.near_leaks, test),
    ]
    for title, pairs, other in kinds:
        console.print(f"[bold]{len(pairs)}[/] {title}")
        for pair in pairs[:show]:
            one, two = pool[pair.first], other[pair.second]
            console.print(escape(f"  {pair.first}: {_text(one, key)!r} -> {_text(one, 'output')!r}"))
            console.print(escape(f"  {pair.second}: {_text(two, key)!r} -> {_text(two, 'output')!r}"))
    counts = [count for _, count in found.labels]
    if len(counts) < found.rows / 2:
        most, least = found.labels[0], found.labels[-1]
        console.print(escape(f"outputs: {most[1]} of {most[0]!r} the most, {least[1]} of {least[0]!r} the least"))


def _text(row: dict[str, object], name: str) -> object:
    return row.get(name, row.get("input", row))


def read_condition(text: str) -> dict[str, object]:
    """Read a filter from the command line.

    Args:
        text: A JSON object.

    Returns:
        The filter.

    Raises:
        InvalidInputError: If it is no JSON object.
    """
    try:
        condition = read_json(text)
    except InvalidInputError as error:
        raise InvalidInputError(f'--where takes JSON such as {{"lang": "en"}}, got {text!r}: {error}') from error
    if not isinstance(condition, dict):
        raise InvalidInputError(f'--where takes a JSON object such as {{"lang": "en"}}, got {text!r}')
    return condition


def _as_json(chosen: Selection) -> dict[str, object]:
    hits = [
        {"id": hit.id, "rank": hit.rank, "score": hit.score, "input": hit.text, "output": example.output}
        | {"why": dict(hit.why)}
        for hit, example in zip(chosen.hits, chosen, strict=True)
    ]
    return {"hits": hits, "dropped": [list(pair) for pair in chosen.dropped], "tokens": chosen.tokens}


def _reason(why: object) -> str:
    parts = dict(why)  # type: ignore[call-overload]
    return ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name}: {' '.join(map(str, value))}"
        for name, value in parts.items()
    )


def console_of_width(*, stderr: bool = False) -> Console:
    """A console that breaks no line of a table where nobody can say how wide it is."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=500)
