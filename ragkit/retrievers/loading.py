"""Loading the retrievers of an index by name."""

from __future__ import annotations

from collections.abc import Sequence

from ragkit.index import Index
from ragkit.protocols import Retriever
from ragkit.registry import create


def load_retrievers(specs: Sequence[str], index: Index) -> list[Retriever]:
    """Create several retrievers of one index. Retrievers that they have in common are created once.

    Args:
        specs: Specs of registered retrievers, such as ``["dense", "bm25", "hybrid"]``.
        index: The index.

    Returns:
        The retrievers, in order.

    Raises:
        UnknownSpecError: If no retriever has one of these names.
    """
    created: dict[str, Retriever] = {}

    def load(spec: str) -> Retriever:
        if spec not in created:
            created[spec] = create("retriever", spec, index, settings={"load": load})
        return created[spec]

    return [load(spec) for spec in specs]


def load_retriever(spec: str, index: Index) -> Retriever:
    """Create a retriever of an index.

    Args:
        spec: The spec of a registered retriever, such as ``"hybrid"``.
        index: The index.

    Returns:
        The retriever.

    Raises:
        UnknownSpecError: If no retriever has this name.
    """
    return load_retrievers([spec], index)[0]
