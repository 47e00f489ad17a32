"""The command ``ragkit ask``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import typer

from ragkit._files import cache_folder
from ragkit._progress import progress
from ragkit.errors import InvalidInputError
from ragkit.index import Index
from ragkit.index._database import NAME
from ragkit.retrievers._loading import load_retriever
from ragkit_pipelines.cli.common import (
    ApiKeyEnv,
    BaseUrl,
    Json,
    MaxReasoningTokens,
    Reasoning,
    Where,
    echo,
    given_model,
    print_json,
    read_filter,
    report_unread,
)
from ragkit_pipelines.cli.documents import read_pieces
from ragkit_pipelines.rag import ExtractiveReader, RetrieveThenAnswer
from ragkit_pipelines.rag.styles import StyleName

_EMBEDDER = "minilm"


def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    docs: Annotated[Path | None, typer.Option(help="A folder of documents, or one document.")] = None,
    index: Annotated[Path | None, typer.Option(help="Folder of an index; synced with --docs if given.")] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Language model, or extractive to quote sentences.")
    ] = "extractive",
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    reasoning: Reasoning = None,
    max_reasoning_tokens: MaxReasoningTokens = None,
    embedder: Annotated[str | None, typer.Option(help="Embedder; by default that of the index, or minilm.")] = None,
    retriever: Annotated[str, typer.Option(help="Retriever: {retriever}.")] = "hybrid",
    k: Annotated[int, typer.Option(help="Number of passages to retrieve.")] = 5,
    style: Annotated[
        StyleName,
        typer.Option(help="Answer of a language model: a few words, sentences with citations, or in detail."),
    ] = "cited",
    where: Where = None,
    *,
    as_json: Json = False,
) -> None:
    """Answer a question from documents, and cite the passages that support the answer.

    The documents are embedded on the first call; later calls embed only changed files. Without --index, the
    embeddings of a folder are stored in the user's cache.

    Example: ragkit ask "How is a filter written?" --docs docs/
    """
    loaded = given_model(
        None if model == "extractive" else model, base_url, api_key_env, reasoning, max_reasoning_tokens
    )
    with _open_index(docs, index, embedder) as opened:
        answerer = loaded or ExtractiveReader(opened.embedder or _EMBEDDER)
        pipeline = RetrieveThenAnswer(answerer, load_retriever(retriever, opened), k, style=style)
        with progress("answering", None):
            answer = pipeline.invoke(question, where=read_filter(where))
    if as_json:
        facts = asdict(answer)
        names = ("text", "citations", "flagged", "refused", "question", "seconds")
        print_json({name: facts[name] for name in names} | {"supported": answer.supported})
    else:
        echo(str(answer))
        for number in answer.flagged:
            echo(f"[{number}] does not refer to a retrieved passage", err=True)
    if answer.uncited:
        echo("warning: the answer cites no retrieved passage, so the documents may not support it", err=True)


@contextmanager
def _open_index(docs: Path | None, folder: Path | None, embedder: str | None) -> Iterator[Index]:
    """Open the index, and sync it with the documents if there are any."""
    if docs is None:
        if folder is None:
            raise InvalidInputError("there are no documents to answer from; pass --docs, --index or both")
        with Index.open(folder, embedder=embedder, read_only=True) as index:
            yield index
        return
    path = folder or (_cached(docs, embedder or _EMBEDDER) if docs.is_dir() else None)
    exists = path is not None and (path / NAME).is_file()
    with (
        Index.open(path)
        if path and exists and embedder is None
        else Index.create(path, embedder=embedder or _EMBEDDER, exist_ok=True)
    ) as index:
        if docs.is_dir():
            report = index.sync(docs)
            report_unread(report.unread)
            new = report.new
        else:
            new = len(index.add(read_pieces(docs, "tokens", index)))
        if new and index.embedder is not None:
            stored = f"stored in {path}" if path else "not stored; pass --index to store them"
            echo(f"embedded {new} passages of {docs} with {index.embedder.name}, {stored}", err=True)
        yield index


def _cached(docs: Path, embedder: str) -> Path:
    """Return the cache folder for the index of a folder, which depends on the folder's path and the embedder."""
    path = docs.resolve()
    digest = blake2b(f"{path}\n{embedder}".encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    return cache_folder() / "ask" / f"{path.name}-{digest}"
