"""Contract tests for every `Embedder`."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ragkit.protocols import Embedder
from ragkit.testing._refusing import assert_refused


class EmbedderContract:
    """Contract tests for every `Embedder`; provide it as the fixture ``embedder``.

    Attributes:
        texts: Three or more texts, all different.
        alike: Two similar texts, and a third that is less similar to the first.
        tolerance: Maximum change of a vector with the batch that it is computed in.
    """

    texts: ClassVar[Sequence[str]] = (
        "a red lamp",
        "the river runs to the sea",
        "naïve café 東京 \x00 \U0001f600",
        "lamp",
    )
    alike: ClassVar[tuple[str, str, str]] = (
        "turn on the red lamp",
        "turn off the red lamp",
        "stock prices fell sharply",
    )
    tolerance: ClassVar[float] = 1e-5

    def test_fits_the_protocol(self, embedder: Embedder) -> None:
        """It has every member of `Embedder`."""
        assert isinstance(embedder, Embedder)
        assert embedder.name
        assert embedder.fingerprint

    def test_shape_and_dtype(self, embedder: Embedder) -> None:
        """Both methods return f32[n, d]."""
        for embed in (embedder.embed_documents, embedder.embed_queries):
            vectors = embed(list(self.texts))
            assert vectors.shape == (len(self.texts), embedder.dim)
            assert vectors.dtype == np.float32
            assert np.isfinite(vectors).all()

    def test_no_texts(self, embedder: Embedder) -> None:
        """An empty sequence returns f32[0, d]."""
        for embed in (embedder.embed_documents, embedder.embed_queries):
            vectors = embed([])
            assert vectors.shape == (0, embedder.dim)
            assert vectors.dtype == np.float32

    def test_length_is_one_or_zero(self, embedder: Embedder) -> None:
        """Rows have length 1; a text without features for the embedder may have length 0."""
        for embed in (embedder.embed_documents, embedder.embed_queries):
            lengths = np.linalg.norm(embed([*self.texts, "", "   "]), axis=1)
            assert np.all((np.abs(lengths - 1) < 1e-4) | (lengths == 0))
            assert np.all(np.abs(lengths[: len(self.texts)] - 1) < 1e-4)

    def test_same_again(self, embedder: Embedder) -> None:
        """The same texts give the same vectors."""
        first, second = embedder.embed_documents(list(self.texts)), embedder.embed_documents(list(self.texts))
        assert np.array_equal(first, second)

    def test_order_and_batch_do_not_matter(self, embedder: Embedder) -> None:
        """The vector of a text does not depend on its position or on the other texts in the batch."""
        together = embedder.embed_documents([*self.texts, "word " * 100])[: len(self.texts)]
        backwards = embedder.embed_documents(list(reversed(self.texts)))[::-1]
        alone = np.concatenate([embedder.embed_documents([text]) for text in self.texts])
        assert np.allclose(together, alone, atol=self.tolerance)
        assert np.allclose(backwards, alone, atol=self.tolerance)

    def test_different_texts_differ(self, embedder: Embedder) -> None:
        """Different texts have different vectors, and the inner product measures similarity."""
        vectors = embedder.embed_documents(list(self.texts))
        similarity = vectors @ vectors.T
        assert np.all(similarity[~np.eye(len(self.texts), dtype=bool)] < 0.999)
        query, near, far = self.alike
        scores = embedder.embed_documents([near, far]) @ embedder.embed_queries([query])[0]
        assert scores[0] > scores[1]

    def test_a_bare_string_is_refused(self, embedder: Embedder) -> None:
        """A string instead of a sequence of strings is rejected."""
        assert_refused(lambda: embedder.embed_documents("abc"))
        assert_refused(lambda: embedder.embed_queries("abc"))
