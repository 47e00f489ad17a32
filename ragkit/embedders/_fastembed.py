"""Embedders of the package fastembed, which run on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit._extras import require
from ragkit._pairwise import lengths
from ragkit._progress import progress
from ragkit._text import refuse_bare_string, require_valid_unicode
from ragkit.errors import InvalidInputError


class FastembedEmbedder:
    """An embedder that runs a text model of fastembed, which downloads it at the first use.

    Attributes:
        name: The spec.
    """

    def __init__(self, model: str) -> None:
        """Create an embedder; the model is loaded at the first use.

        Args:
            model: A model of ``fastembed.TextEmbedding``, such as ``"BAAI/bge-small-en-v1.5"``.

        Raises:
            InvalidInputError: If fastembed does not know the model.
        """
        require("fastembed")
        from fastembed import TextEmbedding

        known = {each["model"].lower(): each for each in TextEmbedding.list_supported_models()}
        found = known.get(model.lower())
        if found is None:
            from difflib import get_close_matches

            near = [known[name]["model"] for name in get_close_matches(model.lower(), known, 3, 0.5)]
            raise InvalidInputError(
                f"fastembed has no text model {model[:200]!r}; "
                + (f"did you mean {' or '.join(map(repr, near))}?" if near else "its documentation lists the models")
            )
        self._model, self.dim = str(found["model"]), int(found["dim"])
        self.name = f"fastembed:{self._model}"

    @property
    def fingerprint(self) -> str:
        """The spec, and the version of the package, which determines the files of a model."""
        from importlib.metadata import version

        return f"{self.name}:{version('fastembed')}"

    @cached_property
    def model(self) -> Any:
        """The loaded ``TextEmbedding``."""
        from fastembed import TextEmbedding

        with progress(f"loading {self.name}", None):
            try:
                return TextEmbedding(self._model)
            except Exception as error:  # it raises errors of the hub and of ONNX Runtime
                raise InvalidInputError(
                    f"{self.name} cannot be loaded ({type(error).__name__}: {error}); fastembed downloads a model at "
                    "the first use, which needs a network"
                ) from error

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n documents as unit vectors, f32[n, dim]."""
        return self._rows(texts, self.model.passage_embed)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n queries as unit vectors, f32[n, dim]."""
        return self._rows(texts, self.model.query_embed)

    def _rows(self, texts: Sequence[str], embed: Any) -> NDArray[np.float32]:
        refuse_bare_string("texts", texts)
        checked = [require_valid_unicode(text) for text in texts]
        vectors: Iterable[Any] = embed(checked) if checked else ()
        rows = np.array(list(vectors), dtype=np.float32).reshape(len(checked), self.dim)
        own = lengths(rows)
        rows /= np.where(own > 0, own, 1)[:, None]
        return rows
