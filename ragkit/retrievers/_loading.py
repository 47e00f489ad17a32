"""Loading the retrievers of an index by name."""

from __future__ import annotations

from collections.abc import Sequence

from ragkit.index import Index
from ragkit.protocols import Retriever
from ragkit.registry import create


def load_retrievers(specs: Sequence[str], index: Index) -> list[Retriever]:
    """Return the retrievers of an index by their specs, such as ``["dense", "bm25", "hybrid"]``, in order.

    Retrievers that they have in common are created once. An unknown spec raises an `UnknownSpecError`.
    """
    created: dict[str, Retriever] = {}

    def load(spec: str) -> Retriever:
        if spec not in created:
            created[spec] = create("retriever", spec, index, settings={"load": load})
        return created[spec]

    return [load(spec) for spec in specs]


def load_retriever(spec: str, index: Index) -> Retriever:
    """Return the retriever of an index by its spec, such as ``"hybrid"``."""
    return load_retrievers([spec], index)[0]
