"""Storage of exported embedders, with one folder per model, which is verified on reading and safe across processes."""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.files import cache_folder, file_sha256, make_folder, write_atomic

EXPORTER = 1
"""Raised when what is exported changes, so that older exports are left alone."""
WEIGHTS = "model.safetensors"
_GRAPH, _TOKENIZER, _MANIFEST = "model.onnx", "tokenizer.json", "manifest.json"
_FILES_OF_A_MODEL = ("*.json", "*.txt", "*.model", WEIGHTS)


class Facts(BaseModel):
    """The settings of an exported model, in addition to its graph and tokenizer.

    Attributes:
        dim: Number of dimensions.
        inputs: Names of the graph's inputs, in order.
        pad_id: Id of the padding token.
        query_prompt: Prefix of queries.
        document_prompt: Prefix of documents.
        made_with: Versions of the libraries that created the export.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dim: int
    inputs: list[str]
    pad_id: int
    query_prompt: str
    document_prompt: str
    made_with: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An exported model for ONNX Runtime.

    Attributes:
        graph: The ONNX file, with the outputs ``sentence``, f32[n, dim], and ``tokens``, f32[n, t, dim].
        tokenizer: The tokenizer file of Hugging Face tokenizers, with truncation at the model's window.
        facts: The settings of the model.
    """

    graph: bytes
    tokenizer: bytes
    facts: Facts


def source_folder(source: str) -> Path:
    """Return the folder of a sentence-transformers model, which is downloaded from the hub if necessary.

    Returns:
        A folder with ``model.safetensors``.

    Raises:
        InvalidInputError: If the model does not exist.
        UnsupportedError: If its weights are stored in other files.
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


def place_of(folder: Path, weights: str, cache: Path | None) -> Path:
    """Return the folder for the export of a model, named by a hash of all files that affect its vectors.

    Args:
        folder: Folder of a sentence-transformers model.
        weights: The SHA-256 hash of its weights.
        cache: Cache folder; `ragkit.files.cache_folder` if None.

    Returns:
        A folder, which may not exist yet.
    """
    digest = hashlib.sha256(weights.encode())
    folders = {folder, *(folder / each for each in _module_paths(folder))}
    for file in sorted(file for each in folders for pattern in _FILES_OF_A_MODEL for file in each.glob(pattern)):
        if file != folder / WEIGHTS:
            digest.update(f"{file.relative_to(folder).as_posix()}\0{file_sha256(file)}\n".encode())
    return (cache or cache_folder()) / "onnx" / f"{digest.hexdigest()[:32]}-v{EXPORTER}"


def read(place: Path) -> Exported | None:
    """Read an export.

    Returns:
        The export; None if it does not exist, or if a file is damaged.
    """
    try:
        manifest = json.loads((place / _MANIFEST).read_bytes())
        facts = Facts.model_validate(manifest["facts"])
        graph, tokenizer = (place / _GRAPH).read_bytes(), (place / _TOKENIZER).read_bytes()
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None
    found = Exported(graph=graph, tokenizer=tokenizer, facts=facts)
    return found if manifest == _manifest(found) else None


def store(exported: Exported, place: Path) -> None:
    """Store an export, and replace a damaged one; concurrent processes store the same export only once.

    Raises:
        InvalidInputError: If the folder is not writable.
    """
    try:
        make_folder(place.parent)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=place.parent) as work:
            new = Path(work, "new")
            new.mkdir()
            write_atomic(new / _GRAPH, exported.graph)
            write_atomic(new / _TOKENIZER, exported.tokenizer)
            write_atomic(new / _MANIFEST, json.dumps(_manifest(exported), indent=1).encode())
            if place.exists() and read(place) is None:
                with suppress(OSError):  # another process may have moved it
                    place.rename(Path(work, "damaged"))
            new.rename(place)
    except OSError as error:
        if read(place) is None:  # otherwise another process was faster
            raise InvalidInputError(
                f"the exported model cannot be kept in {place.parent} ({error}); set RAGKIT_CACHE to a folder that can "
                "be written"
            ) from error


def _manifest(exported: Exported) -> dict[str, object]:
    facts = exported.facts.model_dump()
    return {
        "facts": facts,
        "sha256": {
            "facts": hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
            _GRAPH: hashlib.sha256(exported.graph).hexdigest(),
            _TOKENIZER: hashlib.sha256(exported.tokenizer).hexdigest(),
        },
    }


def _module_paths(folder: Path) -> list[str]:
    """Return the folders of a model's modules, which are listed in ``modules.json``.

    Returns:
        Paths relative to the folder; empty if the file does not exist.

    Raises:
        InvalidInputError: If the file is not a list of modules.
    """
    listing = folder / "modules.json"
    if not listing.is_file():
        return []
    try:
        return [str(part["path"]) for part in json.loads(listing.read_bytes())]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{listing} is not a list of modules ({error!r}); get the model again") from error
