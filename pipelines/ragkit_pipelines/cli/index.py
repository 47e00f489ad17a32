"""The command line of the index: ``ragkit index build|add|sync|rebuild|search|stats|tune|verify|compact|…``."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ragkit.errors import DataFileError, InvalidInputError, UnreadFileWarning
from ragkit.index import Index
from ragkit.index.rebuilding import rebuild_index
from ragkit.ingest import load_chunker, load_documents
from ragkit.ingest.syncing import SyncReport
from ragkit.progress import progress
from ragkit.records import Document
from ragkit.text import read_json
from ragkit.workers import WorkerPool
from ragkit_pipelines.cli.select import console_of_width, read_condition

index_app = typer.Typer(help="Keep and search an index of documents.", no_args_is_help=True)

_Folder = Annotated[Path, typer.Argument(help="Folder of the index.")]
_Data = Annotated[
    Path,
    typer.Argument(help="A folder, a document, or JSON lines: text, and if you like id; other fields become metadata."),
]
_Chunker = Annotated[str, typer.Option(help="How files are cut: tokens, markdown:1000 or recursive:1000:100.")]
_Text = Annotated[str, typer.Option(help="The field that holds the text.")]
_Engine = Annotated[str, typer.Option(help="Where texts are embedded: inline, process or ray.")]
_Workers = Annotated[int, typer.Option(help="Workers that embed, where the engine is process or ray.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@index_app.command()
def build(  # noqa: PLR0913 - the options of the command
    folder: _Folder,
    data: _Data,
    embedder: Annotated[str, typer.Option(help="Embedder, such as minilm or hash:384.")] = "minilm",
    metric: Annotated[str, typer.Option(help="cosine, ip or l2.")] = "cosine",
    dtype: Annotated[str, typer.Option(help="float32 or float16.")] = "float32",
    factory: Annotated[str, typer.Option(help="auto, flat or a FAISS factory string.")] = "auto",
    text: _Text = "text",
    chunker: _Chunker = "tokens",
    engine: _Engine = "inline",
    workers: _Workers = 2,
    *,
    as_json: _Json = False,
) -> None:
    """Make an index of a folder or a file; stopped in the middle, the same command goes on.

    Example: ragkit index build docs.rag docs/
    Example: ragkit index build wiki.rag corpus.jsonl --engine process --workers 4
    """
    _check_there(data)  # before an index is made for nothing
    pool = pool_of(engine, workers)
    with (
        _nothing_left_of_a_mistake(folder),
        Index.create(folder, embedder=embedder, metric=metric, dtype=dtype, factory=factory, exist_ok=True) as index,  # type: ignore[arg-type]
    ):
        synced = _put(index, data, text, chunker, pool)
        _compact(index)
        _say(index, synced, as_json=as_json)


@index_app.command()
def add(
    folder: _Folder,
    data: _Data,
    text: _Text = "text",
    chunker: _Chunker = "tokens",
    engine: _Engine = "inline",
    workers: _Workers = 2,
    *,
    as_json: _Json = False,
) -> None:
    """Add the documents of a file, or put them in the place of those with the same id.

    Example: ragkit index add wiki.rag more.jsonl
    """
    pool = pool_of(engine, workers)
    with Index.open(folder) as index:
        _say(index, _put(index, data, text, chunker, pool), as_json=as_json)


@index_app.command()
def sync(
    folder: _Folder,
    documents: Annotated[Path, typer.Argument(help="A folder of files.")],
    chunker: _Chunker = "tokens",
    *,
    as_json: _Json = False,
) -> None:
    """Bring an index in step with a folder: what has not changed is not embedded again, what vanished is removed.

    Example: ragkit index sync docs.rag docs/
    """
    with Index.open(folder) as index:
        _say(index, index.sync(documents, chunker=chunker), as_json=as_json)


@index_app.command()
def rebuild(
    folder: _Folder,
    new: Annotated[Path, typer.Argument(help="Folder of the new index; stopped, the same command goes on.")],
    embedder: Annotated[str, typer.Option(help="The new embedder, such as st:<folder> of a trained one.")],
    *,
    as_json: _Json = False,
) -> None:
    """Embed the documents of an index again, by another embedder, into a new index.

    Example: ragkit index rebuild docs.rag new.rag --embedder st:runs/embedder
    """
    with Index.open(folder, read_only=True) as old, rebuild_index(old, new, embedder=embedder) as index:
        _compact(index)
        _say(index, None, as_json=as_json)


@index_app.command()
def search(
    folder: _Folder,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option(help="How many.")] = 10,
    where: Annotated[Optional[str], typer.Option(help='Metadata filter as JSON: {"lang": "en"}.')] = None,  # noqa: UP045
    *,
    as_json: _Json = False,
) -> None:
    """Find the documents nearest to a text.

    Example: ragkit index search wiki.rag "who wrote it" --k 5
    """
    with Index.open(folder, read_only=True) as index:
        hits = index.search(query, k, where=None if where is None else read_condition(where))
    if as_json:
        typer.echo(json.dumps([asdict(hit) for hit in hits], ensure_ascii=False, indent=1))
        return
    table = Table("rank", "id", "score", "text", "metadata")
    for hit in hits:
        shown = hit.text if len(hit.text) <= 200 else hit.text[:200] + "…"
        metadata = json.dumps(dict(hit.metadata or {}), ensure_ascii=False)
        table.add_row(str(hit.rank), escape(hit.id), f"{hit.score:.3f}", escape(shown), escape(metadata))
    console_of_width().print(table)


@index_app.command()
def stats(folder: _Folder, *, as_json: _Json = False) -> None:
    """Say how large an index is and how it is searched.

    Example: ragkit index stats wiki.rag
    """
    with Index.open(folder, read_only=True) as index:
        facts = asdict(index.stats())
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    console = Console()
    for name, value in facts.items():
        console.print(f"{name}: {escape(str(value))}")


@index_app.command()
def tune(
    folder: _Folder,
    target_recall: Annotated[float, typer.Option(help="Share of true neighbours that must be found.")] = 0.95,
    k: Annotated[int, typer.Option(help="How many neighbours.")] = 10,
) -> None:
    """Measure recall on the index's own data and keep the fastest setting that is good enough.

    Example: ragkit index tune wiki.rag --target-recall 0.98
    """
    with Index.open(folder) as index:
        with progress("measuring recall", None):
            found = index.tune(target_recall=target_recall, k=k)
        typer.echo(json.dumps(dict(found)))


@index_app.command()
def verify(folder: _Folder, *, as_json: _Json = False) -> None:
    """Check every checksum; damage ends with exit code 2.

    Example: ragkit index verify wiki.rag
    """
    with progress("checking every checksum", None), Index.open(folder, read_only=True, verify=True) as index:
        found = {"documents": len(index), "damaged": False}
    typer.echo(json.dumps(found) if as_json else f"{found['documents']} documents, no damage found")


@index_app.command()
def compact(folder: _Folder, *, as_json: _Json = False) -> None:
    """Give back the room of removed documents and build what approximate search needs.

    Example: ragkit index compact wiki.rag
    """
    with Index.open(folder) as index:
        _compact(index)
        _say(index, None, as_json=as_json)


@index_app.command()
def import_langchain(
    folder: Annotated[Path, typer.Argument(help="Folder that LangChain's FAISS.save_local wrote.")],
    out: Annotated[Path, typer.Option(help="New folder for the index.")],
    embedder: Annotated[Optional[str], typer.Option(help="What the vectors were made with, such as minilm.")] = None,  # noqa: UP045
    metric: Annotated[str, typer.Option(help="auto, cosine, ip or l2.")] = "auto",
    name: Annotated[str, typer.Option(help="The index_name it was saved under.")] = "index",
    *,
    as_json: _Json = False,
) -> None:
    """Bring a saved FAISS store of LangChain over; its pickle is read without running anything in it.

    Example: ragkit index import-langchain faiss_index --out wiki.rag --embedder minilm
    """
    from ragkit_pipelines.langchain.import_faiss import import_faiss

    with progress("bringing documents over", None):
        report = import_faiss(folder, out, embedder=embedder, metric=metric, name=name)  # type: ignore[arg-type]
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=1))
        return
    typer.echo(f"{report.documents} documents of {report.dim} dimensions from {report.kind}, metric {report.metric}")
    if report.left_out:
        typer.echo(f"{report.left_out} documents had no vector and were left out")
    if report.likeness is not None:
        typer.echo(f"embedded again, the least cosine with the stored vectors is {report.likeness:.4f}")
    typer.echo(f"written to {out}")


def _put(index: Index, data: Path, text: str, chunker: str, pool: WorkerPool | None) -> SyncReport | None:
    """Add a folder, lines of JSON as they are, or the pieces of another file; a folder gives a report."""
    if data.is_dir() and pool is not None:
        raise InvalidInputError("--engine embeds a file; a folder is embedded in this process, so leave --engine out")
    if data.is_dir():
        return index.sync(data, chunker=chunker)
    if data.suffix.lower() in {"", ".jsonl", ".json", ".ndjson"}:
        index.add(_documents(data, text), pool=pool)
    else:
        index.add(pieces_of(data, chunker, index), pool=pool)
    return None


def pieces_of(file: Path, chunker: str, index: Index) -> list[Document]:
    """The pieces of a document that is no folder; what could not be read of it is said.

    Args:
        file: The file, or a pattern.
        chunker: How it is cut.
        index: The index that the pieces are for, whose embedder counts tokens.

    Returns:
        The pieces.

    Raises:
        DataFileError: If no text could be had.
    """
    cut = load_chunker(chunker, embedder=index.embedder or "minilm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadFileWarning)  # said below, as of a folder
        read = load_documents(file)
    if not any(document.text.strip() for document in read):
        reasons = "; ".join(each.reason for each in read.unread) or "it holds no text"
        raise DataFileError(file, 0, f"{reasons}; give a document that can be read")
    for each in read.unread:
        typer.echo(f"not read: {each.source}: {each.reason}", err=True)
    return [piece for document in read for piece in cut.chunk(document)]


@contextmanager
def _nothing_left_of_a_mistake(folder: Path) -> Iterator[None]:
    """Remove an index that a mistake has left empty, if it was not there before."""
    new = not folder.exists()
    try:
        yield
    except InvalidInputError:
        if new and folder.exists():
            with Index.open(folder, read_only=True) as index:
                empty = len(index) == 0
            if empty:
                shutil.rmtree(folder)
        raise


def _compact(index: Index) -> None:
    with progress("making the index compact", None):
        index.compact()


def _check_there(data: Path) -> None:
    if not data.exists():
        raise DataFileError(data, 0, "there is no such file or folder; expected documents, or JSON lines")


def pool_of(engine: str, workers: int) -> WorkerPool | None:
    """The workers that a command is given.

    Args:
        engine: What ``--engine`` says.
        workers: What ``--workers`` says.

    Returns:
        A pool; None where this process does all.
    """
    return None if engine == "inline" else WorkerPool(engine, workers=workers)  # type: ignore[arg-type]


def _documents(path: Path, text: str) -> Iterator[Document]:
    """The documents of a file of JSON lines, read as they are asked for."""
    try:
        file = path.open("rb")  # decoded line by line, so that an error has its line
    except OSError as error:
        raise DataFileError(path, 0, f"cannot be read ({error.strerror}); expected a file of JSON lines") from error
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = read_json(line)
            except InvalidInputError as error:
                raise DataFileError(path, number, f"{error}; expected one JSON object a line") from error
            if not isinstance(row, dict) or not isinstance(row.get(text), str):
                raise DataFileError(path, number, f"expected a JSON object with {text!r}, a text")
            own = row.pop("id" if row.get("id") is not None else "_id", None)  # `_id` as in BEIR
            if own is not None and not isinstance(own, (str, int)):
                raise DataFileError(path, number, f"expected `id` to be text or a number, got {own!r}")
            yield Document(row.pop(text), id=None if own is None else str(own), metadata=row or None)


def _say(index: Index, synced: SyncReport | None, *, as_json: bool) -> None:
    """Say what an index holds now, and how a folder was brought in."""
    facts = index.stats()
    for each in synced.unread if synced else ():
        typer.echo(f"not read: {each.source}: {each.reason}", err=True)
    if as_json:
        report = asdict(synced) | {"unread": [each._asdict() for each in synced.unread]} if synced else {}
        typer.echo(json.dumps(asdict(facts) | report, indent=1))
        return
    if synced:
        typer.echo(f"{synced.new} new or changed, {synced.removed} removed, {synced.unchanged} files unchanged")
    typer.echo(f"{facts.documents} documents, {facts.bytes:,} bytes, search: {facts.factory}")
