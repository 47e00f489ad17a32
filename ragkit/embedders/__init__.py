"""Embedders, which convert texts to vectors. `load_embedder` loads an embedder from a spec."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ragkit._lazy import lazy_names
from ragkit.errors import InvalidInputError
from ragkit.registry import create, find

if TYPE_CHECKING:
    from ragkit.embedders._hashing import HashingEmbedder as HashingEmbedder
    from ragkit.protocols import Embedder


def load_embedder(
    embedder: str | Embedder | object,
    *,
    dtype: str = "float32",
    base_url: str | None = None,
    api_key_env: str | None = None,
    dimensions: int | None = None,
) -> Embedder:
    """Load an embedder from a spec; an embedder is returned unchanged.

    Args:
        embedder: An embedder, a LangChain ``Embeddings`` or a spec: ``"minilm"`` (all-MiniLM-L6-v2, offline if the
            extra ``offline`` is installed), ``"st:"`` followed by a hub id or folder of a sentence-transformers model,
            either of them with the prefix ``"onnx:"`` to run on the CPU with ONNX Runtime, ``"hash:384"``, which does
            not need a model, ``"fastembed:<model>"``, or ``"<provider>:<model>"`` in the form of LangChain's
            ``init_embeddings``, such as ``"openai:text-embedding-3-small"``.
        dtype: Precision of a neural embedder's weights: ``"float32"``, ``"bfloat16"`` or ``"float16"``; with
            ``"onnx:"``, only ``"float32"``.
        base_url: Address of another server with the API of the provider, such as an OpenAI-compatible server for
            ``"openai:…"``.
        api_key_env: Name of the environment variable that holds the API key; by default that of the provider.
        dimensions: Number of dimensions, for API models that can shorten their vectors.

    Returns:
        An embedder.

    Raises:
        UnknownSpecError: If no embedder has this name.
        InvalidInputError: If the argument is not a spec or an embedder, the part after the colon is invalid, or an
            argument does not apply to the spec.
        ModelError: If the package or the key of an API embedder is missing.
    """
    given = {"base_url": base_url, "api_key_env": api_key_env, "dimensions": dimensions}
    if not isinstance(embedder, str):
        if any(value is not None for value in given.values()):
            raise InvalidInputError(f"{', '.join(f'`{name}`' for name in given)} go with a spec, not with an embedder")
        return _from_object(embedder)
    if embedder.startswith("langchain:"):
        raise InvalidInputError(f"{embedder!r} is an object of LangChain's; give the object itself as the embedder")
    given = {name: value for name, value in given.items() if value is not None}
    accepted = find("embedder", embedder).parameters() if given or dtype != "float32" else {}
    if dtype != "float32" and "dtype" not in accepted:
        raise InvalidInputError(f"{embedder!r} computes in float32, so `dtype` {dtype!r} cannot be used; omit it")
    unused = [name for name in given if name not in accepted]
    if unused:
        raise InvalidInputError(
            f"`{unused[0]}` goes with an API embedder such as 'openai:<model>', got it with {embedder!r}"
        )
    loaded: Embedder = create("embedder", embedder, settings={"dtype": dtype, **given})
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
