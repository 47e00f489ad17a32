"""Open the documents from which strategies retrieve, in any of the accepted forms."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

from typing_extensions import override

from ragkit._files import make_folder
from ragkit.errors import InvalidInputError
from ragkit.finetuning._manifest import run_hash
from ragkit.protocols import Embedder, Retriever
from ragkit.records import Document
from ragkit.retrievers._base import Hits, RetrieverBase, Where

if TYPE_CHECKING:
    from ragkit.index import Index

AnyDocuments: TypeAlias = "str | Path | Sequence[str | Document] | Index | Retriever"


class Library(RetrieverBase):
    """A retriever with a hash of its passages (random if they are unknown) as its ``repr``.

    Cached results of different documents are kept apart by it.
    """

    name = "library"

    def __init__(self, retriever: Retriever, fingerprint: str) -> None:
        """Wrap a retriever."""
        self.retriever, self.fingerprint = retriever, fingerprint

    def __repr__(self) -> str:
        """Return a text with the fingerprint only."""
        return f"Library({self.fingerprint})"

    @override
    def _retrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        return self.retriever.retrieve(queries, k, where=where)


@contextmanager
def open_documents(documents: AnyDocuments, folder: Path, embedder: Embedder) -> Iterator[Library]:
    """Open a folder (its index lies in ``folder``), a file, passages, an index or a retriever for hybrid retrieval."""
    from ragkit.index import Index
    from ragkit.ingest import load_chunker, load_documents

    if isinstance(documents, Index):
        library = _library(documents)
        if documents.embedder is not None:  # may differ from that of the comparison
            library.fingerprint = run_hash(passages=library.fingerprint, embedder=documents.embedder.fingerprint)
        yield library
    elif isinstance(documents, str | Path):
        path = Path(documents)
        if not path.exists():
            raise InvalidInputError(f"`documents` is {str(path)!r}, which does not exist; give a folder or a file")
        path_of_index = folder / f"documents-{run_hash(path=str(path.resolve()), embedder=embedder.fingerprint)}"
        make_folder(path_of_index.parent)
        with Index.create(path_of_index if path.is_dir() else None, embedder=embedder, exist_ok=True) as index:
            if path.is_dir():
                index.sync(path)
            else:
                chunker = load_chunker("tokens", embedder=embedder)
                index.add([piece for document in load_documents(path) for piece in chunker.chunk(document)])
            yield _library(index)
    elif isinstance(documents, Retriever):
        yield Library(documents, uuid4().hex)
    elif isinstance(documents, Sequence):
        with Index.create(None, embedder=embedder) as index:
            index.add(list(documents))
            yield _library(index)
    else:
        raise InvalidInputError(
            "`documents` must be a folder, a file, a list of passages, an Index or a retriever; "
            f"got {type(documents).__name__}"
        )


def _library(index: Index) -> Library:
    if not len(index):
        raise InvalidInputError("`documents` must contain at least one passage with text")
    from ragkit.retrievers._bm25 import BM25Retriever
    from ragkit.retrievers._dense import DenseRetriever
    from ragkit.retrievers._hybrid import HybridRetriever

    held = hashlib.sha256()
    texts = (document.text for document in index.get_by_keys(index.keys()) if document is not None)
    for text in sorted(texts):
        held.update(f"{len(text)}:{text}".encode("utf-8", "surrogatepass"))
    parts: list[Retriever] = [BM25Retriever(index)]
    if index.embedder is not None:
        parts.append(DenseRetriever(index))
    return Library(HybridRetriever(parts), held.hexdigest()[:16])
