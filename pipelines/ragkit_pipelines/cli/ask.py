"""The command line of answers: ``ragkit ask``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Optional

import typer

from ragkit.errors import InvalidInputError
from ragkit.index import Index
from ragkit.index.database import NAME
from ragkit.progress import progress
from ragkit.retrievers.loading import load_retriever
from ragkit_pipelines.cli.index import pieces_of
from ragkit_pipelines.cli.select import read_condition
from ragkit_pipelines.rag import CitedAnswer, ExtractiveReader, RetrieveThenAnswer

_EMBEDDER = "minilm"


def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    docs: Annotated[Optional[Path], typer.Option(help="A folder of documents, or one document.")] = None,  # noqa: UP045
    index: Annotated[Optional[Path], typer.Option(help="An index, brought in step with --docs if given.")] = None,  # noqa: UP045
    model: Annotated[str, typer.Option(help="Language model; extractive answers without one.")] = "extractive",
    embedder: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Such as hash:384, which needs no model; that of the index, or minilm, if not given."),
    ] = None,
    retriever: Annotated[str, typer.Option(help="Retriever: {retriever}.")] = "hybrid",
    k: Annotated[int, typer.Option(help="How many passages are read.")] = 5,
    where: Annotated[Optional[str], typer.Option(help='Metadata filter as JSON: {"source": "docs/a.md"}.')] = None,  # noqa: UP045
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Answer a question from documents, with the places that the answer rests on.

    The first time documents are embedded, later only those that changed; without --index they are kept in the cache.

    Example: ragkit ask "How is a filter written?" --docs docs/
    """
    with _opened(docs, index, embedder) as held:
        reader = ExtractiveReader(held.embedder or _EMBEDDER) if model == "extractive" else model
        pipeline = RetrieveThenAnswer(reader, load_retriever(retriever, held), k)
        with progress("answering", None):
            answer = pipeline.invoke(question, where=None if where is None else read_condition(where))
    if as_json:
        shown = ("text", "citations", "flagged", "refused", "question", "seconds")
        facts = asdict(answer)
        typer.echo(json.dumps({name: facts[name] for name in shown}, ensure_ascii=False, indent=1))
    else:
        _show(answer)


@contextmanager
def _opened(docs: Path | None, folder: Path | None, embedder: str | None) -> Iterator[Index]:
    """The index to ask, in step with the documents where there are any."""
    if docs is None:
        if folder is None:
            raise InvalidInputError("there is nothing to read; give --docs, --index or both")
        with Index.open(folder, embedder=embedder, read_only=True) as index:
            yield index
        return
    place = folder or (_cached(docs, embedder or _EMBEDDER) if docs.is_dir() else None)
    own = embedder is None and place is not None and (place / NAME).is_file()
    with (
        Index.open(place) if own and place else Index.create(place, embedder=embedder or _EMBEDDER, exist_ok=True)
    ) as index:
        if docs.is_dir():
            report = index.sync(docs)
            for each in report.unread:
                typer.echo(f"not read: {each.source}: {each.reason}", err=True)
            _tell(index, report.new, docs, place)
        else:
            pieces = pieces_of(docs, "tokens", index)
            index.add(pieces)
            _tell(index, len(pieces), docs, place)
        yield index


def _tell(index: Index, new: int, docs: Path, place: Path | None) -> None:
    """Say what read the documents, which decides what is found, and where that is kept."""
    if new and index.embedder is not None:
        kept = f"kept in {place}" if place else "not kept; --index keeps it"
        typer.echo(f"read {new} pieces of {docs} with the embedder {index.embedder.name}, {kept}", err=True)


def _cached(docs: Path, embedder: str) -> Path:
    """Where the index of a folder is kept: in the user's cache, named by the folder's place and the embedder."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = docs.resolve()
    digest = blake2b(f"{place}\n{embedder}".encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    return root / "ragkit" / "ask" / f"{place.name}-{digest}"


def _show(answer: CitedAnswer) -> None:
    typer.echo(answer.text)
    for number in answer.flagged:
        typer.echo(f"[{number}] points at nothing that was shown", err=True)
    if answer.citations:
        typer.echo()
    for citation in answer.citations:
        place = "" if citation.span is None else f", characters {citation.span[0]} to {citation.span[1]}"
        typer.echo(f"[{citation.number}] {citation.source or citation.id}{place}")
