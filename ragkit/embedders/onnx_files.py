"""Exported embedders on disk: one folder a model, made once, checked whenever it is read, safe among processes."""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.files import cache_folder, file_sha256, write_atomic

EXPORTER = 1
"""Raised when what is exported changes, so that older exports are left alone."""
WEIGHTS = "model.safetensors"
_GRAPH, _TOKENIZER, _MANIFEST = "model.onnx", "tokenizer.json", "manifest.json"
_FILES_OF_A_MODEL = ("*.json", "*.txt", "*.model", WEIGHTS)


class Facts(BaseModel):
    """What is to be known of an exported model beside its graph and its tokenizer.

    Attributes:
        dim: Length of a vector.
        inputs: Names of the graph's inputs, in order.
        pad_id: Token with which shorter texts are filled up.
        query_prompt: What is put before a question.
        document_prompt: What is put before a document.
        made_with: Versions of the libraries that made it.
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
    """A model as ONNX Runtime takes it.

    Attributes:
        graph: The ONNX file. Outputs ``sentence``, f32[n, dim], and ``tokens``, f32[n, t, dim].
        tokenizer: The tokenizer file of Hugging Face's tokenizers, cutting texts at the model's window.
        facts: What else is to be known.
    """

    graph: bytes
    tokenizer: bytes
    facts: Facts


def source_folder(source: str) -> Path:
    """The folder of a model of sentence-transformers, fetched from the hub where it is no folder here.

    Returns:
        A folder with ``model.safetensors``.

    Raises:
        InvalidInputError: If there is no such model.
        UnsupportedError: If its weights are in other files.
    """
    folder = Path(source)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(source, allow_patterns=list(_FILES_OF_A_MODEL)))
        except (OSError, ValueError) as error:
            raise InvalidInputError(
                f"{source!r} is no folder and cannot be had from the hub ({error}); give the folder of a model"
            ) from error
    if not (folder / WEIGHTS).is_file():
        raise UnsupportedError(f"{source} holds no {WEIGHTS}, the one file that is exported; use 'st:{source}'")
    return folder


def place_of(folder: Path, weights: str, cache: Path | None) -> Path:
    """Where the export of a model belongs: named by the contents of all files that shape its vectors.

    Args:
        folder: A folder of sentence-transformers.
        weights: The sha256 of its weights.
        cache: Instead of `ragkit.files.cache_folder`.

    Returns:
        A folder, which need not be there.
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
        The export; None where there is none, or where a file is not the one that was written.
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
    """Keep an export. Of several processes that make the same one, one stores it; a damaged one is replaced.

    Raises:
        InvalidInputError: If the folder cannot be written.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
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
    """Folders of a model's parts, which ``modules.json`` names; a model without that file has none.

    Returns:
        Paths inside the folder.

    Raises:
        InvalidInputError: If the file is not such a list.
    """
    listing = folder / "modules.json"
    if not listing.is_file():
        return []
    try:
        return [str(part["path"]) for part in json.loads(listing.read_bytes())]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{listing} is not a list of modules ({error!r}); get the model again") from error
