"""The commands ``ragkit index build|add|sync|rebuild|search|stats|tune|verify|compact|import-langchain``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ragkit._progress import progress
from ragkit.errors import DataFileError, InvalidInputError
from ragkit.index import Index
from ragkit.index._rebuilding import rebuild_index
from ragkit.ingest._syncing import SyncReport
from ragkit.workers import WorkerPool
from ragkit_pipelines.cli.common import (
    Embedder,
    Engine,
    Json,
    Where,
    Workers,
    echo,
    echo_json,
    print_json,
    print_table,
    read_filter,
    report_unread,
    worker_pool,
)
from ragkit_pipelines.cli.components import ListingCommand
from ragkit_pipelines.cli.documents import read_pieces, read_rows

index_app = typer.Typer(help="Build, update and search an index of documents.", no_args_is_help=True)

_Folder = Annotated[Path, typer.Argument(help="Folder of the index.")]
_Data = Annotated[Path, typer.Argument(help="Folder, document, or JSON Lines with text and optional id.")]
_Chunker = Annotated[str, typer.Option(help="Chunker of files: {chunker}.")]
_Text = Annotated[str, typer.Option(help="JSON field of the text.")]


@index_app.command(cls=ListingCommand)
def build(
    folder: _Folder,
    data: _Data,
    embedder: Embedder = "minilm",
    metric: Annotated[str, typer.Option(help="Metric: cosine, ip or l2.")] = "cosine",
    dtype: Annotated[str, typer.Option(help="Data type of stored vectors: float32 or float16.")] = "float32",
    factory: Annotated[str, typer.Option(help="Search structure: auto, flat or a FAISS factory string.")] = "auto",
    text: _Text = "text",
    chunker: _Chunker = "tokens",
    engine: Engine = "inline",
    workers: Workers = 2,
    *,
    as_json: Json = False,
) -> None:
    """Build an index of a folder or a file. Rerun an interrupted command to resume.

    Example: ragkit index build docs.rag docs/
    Example: ragkit index build wiki.rag corpus.jsonl --engine process --workers 4
    """
    if not data.exists():  # checked before the index is created
        raise DataFileError(data, 0, "there is no such file or folder; expected documents, or JSON Lines")
    pool = worker_pool(engine, workers)
    with (
        _empty_index_removed(folder),
        Index.create(folder, embedder=embedder, metric=metric, dtype=dtype, factory=factory, exist_ok=True) as index,  # type: ignore[arg-type]
    ):
        synced = _add(index, data, text, chunker, pool)
        _compact(index)
        _show(index, synced, as_json=as_json)


@index_app.command(cls=ListingCommand)
def add(
    folder: _Folder,
    data: _Data,
    text: _Text = "text",
    chunker: _Chunker = "tokens",
    engine: Engine = "inline",
    workers: Workers = 2,
    *,
    as_json: Json = False,
) -> None:
    """Add documents to an index; documents with the same id are replaced.

    Example: ragkit index add wiki.rag more.jsonl
    """
    pool = worker_pool(engine, workers)
    with Index.open(folder) as index:
        _show(index, _add(index, data, text, chunker, pool), as_json=as_json)


@index_app.command(cls=ListingCommand)
def sync(
    folder: _Folder,
    documents: Annotated[Path, typer.Argument(help="Folder of documents.")],
    chunker: _Chunker = "tokens",
    *,
    as_json: Json = False,
) -> None:
    """Sync an index with a folder: embed new and changed files, and remove deleted files.

    Example: ragkit index sync docs.rag docs/
    """
    with Index.open(folder) as index:
        _show(index, index.sync(documents, chunker=chunker), as_json=as_json)


@index_app.command()
def rebuild(
    folder: _Folder,
    new: Annotated[Path, typer.Argument(help="Folder of the new index; rerun the command to resume.")],
    embedder: Annotated[str, typer.Option(help="New embedder, such as st:<folder> of a trained embedder.")],
    *,
    as_json: Json = False,
) -> None:
    """Embed the documents of an index with another embedder, into a new index.

    Example: ragkit index rebuild docs.rag new.rag --embedder st:runs/embedder
    """
    with Index.open(folder, read_only=True) as old, rebuild_index(old, new, embedder=embedder) as index:
        _compact(index)
        _show(index, None, as_json=as_json)


@index_app.command()
def search(
    folder: _Folder,
    query: Annotated[str, typer.Argument(help="Text to search for.")],
    k: Annotated[int, typer.Option(help="Number of documents.")] = 10,
    where: Where = None,
    *,
    as_json: Json = False,
) -> None:
    """Find the documents that are most similar to a text.

    Example: ragkit index search wiki.rag "who wrote it" --k 5
    """
    with Index.open(folder, read_only=True) as index:
        hits = index.search(query, k, where=read_filter(where))
    if as_json:
        print_json([asdict(hit) for hit in hits])
        return
    rows = []
    for hit in hits:
        shown = hit.text if len(hit.text) <= 200 else hit.text[:200] + "…"
        metadata = json.dumps(dict(hit.metadata or {}), ensure_ascii=False)
        rows.append([str(hit.rank), hit.id, f"{hit.score:.3f}", shown, metadata])
    print_table(("rank", "id", "score", "text", "metadata"), rows)


@index_app.command()
def stats(folder: _Folder, *, as_json: Json = False) -> None:
    """Show the size and the settings of an index.

    Example: ragkit index stats wiki.rag
    """
    with Index.open(folder, read_only=True) as index:
        facts = asdict(index.stats())
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        echo(f"{name}: {value}")


@index_app.command()
def tune(
    folder: _Folder,
    target_recall: Annotated[float, typer.Option(help="Minimum share of the true neighbours that are found.")] = 0.95,
    k: Annotated[int, typer.Option(help="Number of neighbours.")] = 10,
) -> None:
    """Measure recall on the data of the index, and store the fastest search settings that reach the target.

    Example: ragkit index tune wiki.rag --target-recall 0.98
    """
    with Index.open(folder) as index:
        with progress("measuring recall", None):
            found = index.tune(target_recall=target_recall, k=k)
        echo_json(json.dumps(dict(found)))


@index_app.command()
def verify(folder: _Folder, *, as_json: Json = False) -> None:
    """Verify all checksums of an index; the exit code is 2 if it is damaged.

    Example: ragkit index verify wiki.rag
    """
    with progress("verifying checksums", None), Index.open(folder, read_only=True, verify=True) as index:
        found = {"documents": len(index), "damaged": False}
    echo_json(json.dumps(found) if as_json else f"{found['documents']} documents, no damage found")


@index_app.command()
def compact(folder: _Folder, *, as_json: Json = False) -> None:
    """Reclaim space from deleted documents, and rebuild the structure for approximate search.

    Example: ragkit index compact wiki.rag
    """
    with Index.open(folder) as index:
        _compact(index)
        _show(index, None, as_json=as_json)


@index_app.command()
def import_langchain(
    source: Annotated[
        Path,
        typer.Argument(help="Folder written by FAISS.save_local, or file written by InMemoryVectorStore.dump."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the index.")],
    embedder: Annotated[str | None, typer.Option(help="Embedder of the stored vectors, such as minilm.")] = None,
    metric: Annotated[str, typer.Option(help="Metric: auto, cosine, ip or l2.")] = "auto",
    name: Annotated[str, typer.Option(help="The index_name with which a FAISS store was saved.")] = "index",
    metadata_conversion: Annotated[
        str | None, typer.Option(help="text: store dates, times, UUIDs and paths in metadata as text.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Import a saved store of LangChain. Code in the pickle file of a FAISS store is never executed.

    Example: ragkit index import-langchain faiss_index --out wiki.rag --embedder minilm
    """
    from ragkit_pipelines.langchain.import_faiss import import_faiss
    from ragkit_pipelines.langchain.import_in_memory import import_in_memory

    with progress("importing", None):
        if source.is_file():
            report = import_in_memory(source, out, embedder=embedder, metric=metric)  # type: ignore[arg-type]
        else:
            report = import_faiss(
                source,
                out,
                embedder=embedder,
                metric=metric,  # type: ignore[arg-type]
                name=name,
                metadata_conversion=metadata_conversion,  # type: ignore[arg-type]
            )
    if as_json:
        print_json(asdict(report))
        return
    echo(f"{report.documents} documents of {report.dim} dimensions from {report.kind}, metric {report.metric}")
    if report.left_out:
        echo(f"{report.left_out} documents had no vector and were skipped")
    if report.similarity is not None:
        echo(f"minimum cosine similarity of re-embedded documents to their stored vectors: {report.similarity:.4f}")
    echo(f"Written to {out}")


def _add(index: Index, data: Path, text: str, chunker: str, pool: WorkerPool | None) -> SyncReport | None:
    """Sync a folder, which returns a report, or add the rows of a JSON Lines file or the pieces of another file."""
    if data.is_dir():
        if pool is not None:
            raise InvalidInputError("--engine supports only files; omit it to embed a folder in this process")
        return index.sync(data, chunker=chunker)
    rows = data.suffix.lower() in {"", ".jsonl", ".json", ".ndjson"}
    index.add(read_rows(data, text) if rows else read_pieces(data, chunker, index), pool=pool)
    return None


@contextmanager
def _empty_index_removed(folder: Path) -> Iterator[None]:
    """Remove the index after an invalid argument, if it is new and still empty."""
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
    with progress("compacting the index", None):
        index.compact()


def _show(index: Index, synced: SyncReport | None, *, as_json: bool) -> None:
    """Print the size of an index, and the result of a sync."""
    facts = index.stats()
    if synced:
        report_unread(synced.unread)
    if as_json:
        report = asdict(synced) | {"unread": [each._asdict() for each in synced.unread]} if synced else {}
        print_json(asdict(facts) | report)
        return
    if synced:
        echo(f"{synced.new} new or changed, {synced.removed} removed, {synced.unchanged} files unchanged")
    echo(f"{facts.documents} documents, {facts.bytes:,} bytes, search: {facts.factory}")
