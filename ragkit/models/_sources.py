"""Sources of the weights of local models: the folder or hub id of a spec, and its fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ragkit._packaged import PACKAGED, PackagedModel
from ragkit.errors import InvalidInputError, MissingModelError
from ragkit.finetuning._manifest import files_hash
from ragkit.tiny import WEIGHTS


@dataclass(frozen=True)
class Weights:
    """The weights of a transformers model.

    Attributes:
        place: A folder or a hub id.
        known: The fingerprint, if it is not computed from the files.
    """

    place: str
    known: str | None = None

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of the files in a folder; for a hub id, the id with the revision in the local cache."""
        if self.known is not None:
            return self.known
        folder = Path(self.place)
        if folder.is_dir():
            return files_hash(folder)
        from transformers.utils import cached_file

        return f"{self.place}@{Path(str(cached_file(self.place, 'config.json'))).parent.name[:12]}"


def is_named(spec: str) -> bool:
    """Return whether a spec is ``tiny``, ``smollm2``, ``gemma3-270m`` or ``gguf:<file>``, not a hub id or a folder."""
    return spec == "tiny" or spec in PACKAGED or (spec.startswith("gguf:") and spec != "gguf:")


def source_of(spec: str) -> str:
    """Convert a spec to a source: the part after ``hf:``, after ``./`` for a folder with the name of a spec."""
    source = spec.removeprefix("hf:")
    return f"./{source}" if source != spec and is_named(source) else source


def weights_of(source: str) -> Weights:
    """Locate the weights of a base model; a GGUF file is converted at the first use.

    Args:
        source: A spec for which `is_named` is true, a folder or a hub id.

    Returns:
        The weights.

    Raises:
        InvalidInputError: If a GGUF file does not exist or cannot be read.
        IntegrityError: If a file is damaged.
        MissingModelError: If the package of a model is not installed, and its hub files are not available.
    """
    if source == "tiny":
        return Weights(str(WEIGHTS))
    if source in PACKAGED:
        return _packaged(PACKAGED[source])
    if is_named(source):
        from ragkit.models._gguf import convert

        file = Path(source.removeprefix("gguf:")).expanduser()
        if not file.is_file():
            raise InvalidInputError(f"{source[:200]!r} cannot be loaded: there is no file {file}; give a GGUF file")
        made = convert([file], name=str(file))
        return Weights(str(made.folder), made.fingerprint)
    return Weights(source)


def fingerprint_of(source: str) -> str:
    """Return the fingerprint of a source: a short hash, or a hub id with its revision."""
    return weights_of(source).fingerprint


def _packaged(model: PackagedModel) -> Weights:
    from ragkit.models._gguf import convert, find_conversion

    made = find_conversion(model.sha256)
    if made is None and (parts := model.parts()) is not None:
        made = convert(parts, name=model.spec, sha256=model.sha256)
    if made is not None:
        return Weights(str(made.folder), made.fingerprint)
    if model.hub_id is not None and _is_within_reach(model.hub_id):
        return Weights(model.hub_id)
    raise MissingModelError(model.spec, install=model.install)


def _is_within_reach(hub_id: str) -> bool:
    """Return whether the model's files are in the hub cache or can be downloaded."""
    from transformers.utils import cached_file

    try:
        return cached_file(hub_id, "config.json") is not None
    except (OSError, ValueError):
        return False
