"""Embedders, which convert texts to vectors. `load_embedder` loads an embedder from a spec."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ragkit._lazy import lazy_names
from ragkit.errors import InvalidInputError
from ragkit.registry import create, find

if TYPE_CHECKING:
    from ragkit.embedders._hashing import HashingEmbedder as HashingEmbedder
    from ragkit.protocols import Embedder


def load_embedder(embedder: str | Embedder | object, *, dtype: str = "float32") -> Embedder:
    """Load an embedder from a spec; an embedder is returned unchanged.

    Args:
        embedder: An embedder, a LangChain ``Embeddings`` or a spec: ``"minilm"`` (all-MiniLM-L6-v2, offline if the
            extra ``offline`` is installed), ``"st:"`` followed by a hub id or folder of a sentence-transformers model,
            either of them with the prefix ``"onnx:"`` to run on the CPU with ONNX Runtime, or ``"hash:384"``, which
            does not need a model.
        dtype: Precision of a neural embedder's weights: ``"float32"``, ``"bfloat16"`` or ``"float16"``; with
            ``"onnx:"``, only ``"float32"``.

    Returns:
        An embedder.

    Raises:
        UnknownSpecError: If no embedder has this name.
        InvalidInputError: If the argument is not a spec or an embedder, or the part after the colon is invalid.
    """
    if not isinstance(embedder, str):
        return _from_object(embedder)
    if embedder.startswith("langchain:"):
        raise InvalidInputError(f"{embedder!r} is an object of LangChain's; give the object itself as the embedder")
    if dtype != "float32" and "dtype" not in find("embedder", embedder).parameters():
        raise InvalidInputError(f"{embedder!r} computes in float32, so `dtype` {dtype!r} cannot be used; omit it")
    loaded: Embedder = create("embedder", embedder, settings={"dtype": dtype})
    return loaded


def _from_object(embedder: object) -> Embedder:
    # Not isinstance(embedder, Embedder), which would access `dim` and load a model.
    if callable(getattr(embedder, "embed_documents", None)):
        if callable(getattr(embedder, "embed_queries", None)):
            return cast("Embedder", embedder)
        if callable(getattr(embedder, "embed_query", None)):
            from ragkit.embedders._langchain_embeddings import LangChainEmbedder

            return LangChainEmbedder(embedder)
    raise InvalidInputError(
        "`embedder` must be a spec such as 'minilm', an Embedder or a LangChain Embeddings, "
        f"got {type(embedder).__name__}"
    )


_HOME_OF = {
    "HashingEmbedder": "_hashing",
}
__all__ = ["load_embedder", *_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
