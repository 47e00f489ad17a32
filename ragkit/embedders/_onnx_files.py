"""Files of ONNX embedders: the original model's folder, and cached exports, which are checked when they are read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from ragkit._files import atomic_file, cache_folder, file_sha256, make_folder, read_arrays
from ragkit.errors import InvalidInputError, UnsupportedError

WEIGHTS = "model.safetensors"
_EXPORTER = 2  # raised when the content of an export changes, so that older exports are not read
_FILES_OF_A_MODEL = ("*.json", "*.txt", "*.model", WEIGHTS)


class Facts(BaseModel):
    """The settings of an exported model, in addition to its graph and tokenizer."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dim: int
    inputs: list[str]  # names of the graph's inputs, in order
    pad_id: int
    query_prompt: str
    document_prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An exported model for ONNX Runtime."""

    graph: bytes  # an ONNX file with the outputs "sentence", f32[n, dim], and "tokens", f32[n, t, dim]
    tokenizer: bytes  # a file of Hugging Face tokenizers, with truncation at the model's window
    facts: Facts

    def write(self, path: Path) -> None:
        """Write the export to a cache file, or raise an `InvalidInputError` if its folder is not writable."""
        parts = (self.graph, self.tokenizer, self.facts.model_dump_json().encode())
        graph, tokenizer, facts = (np.frombuffer(content, np.uint8) for content in parts)
        try:
            make_folder(path.parent)
            with atomic_file(path, durable=False) as file:
                np.savez(file, graph=graph, tokenizer=tokenizer, facts=facts)
        except OSError as error:
            raise InvalidInputError(
                f"the exported model cannot be kept in {path.parent} ({error}); set RAGKIT_CACHE to a folder that can "
                "be written"
            ) from error

    @classmethod
    def read(cls, path: Path) -> Exported | None:
        """Return the export in a cache file; None if it does not exist or is damaged."""
        try:
            parts = {name: content.tobytes() for name, content in read_arrays(path).items()}
            facts = Facts.model_validate_json(parts["facts"])
            return cls(graph=parts["graph"], tokenizer=parts["tokenizer"], facts=facts)
        except (OSError, ValueError, KeyError):  # a ValidationError is a ValueError
            return None


def source_folder(source: str) -> Path:
    """Return the folder of a sentence-transformers model, which is downloaded from the hub if necessary.

    Raises:
        InvalidInputError: If the model does not exist.
        UnsupportedError: If its weights are not in ``model.safetensors``.
    """
    folder = Path(source)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(source, allow_patterns=list(_FILES_OF_A_MODEL)))
        except (OSError, ValueError) as error:
            raise InvalidInputError(
                f"{source!r} is not a folder and cannot be loaded from the hub ({error}); give the folder of a model"
            ) from error
    if not (folder / WEIGHTS).is_file():
        raise UnsupportedError(f"{source} holds no {WEIGHTS}, the one file that is exported; use 'st:{source}'")
    return folder


def cache_file(folder: Path, weights: str, cache: Path | None) -> Path:
    """Return the path for the export of a model, named by a hash of all files in its folder that affect its vectors."""
    digest = hashlib.sha256(weights.encode())
    for file in sorted({file for pattern in _FILES_OF_A_MODEL for file in folder.rglob(pattern)}):
        if file != folder / WEIGHTS and file.is_file():
            digest.update(f"{file.relative_to(folder).as_posix()}\0{file_sha256(file)}\n".encode())
    return (cache or cache_folder()) / "onnx" / f"{digest.hexdigest()[:32]}-v{_EXPORTER}.npz"
