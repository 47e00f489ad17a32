"""Find the models in a folder: fine-tuned models, PEFT adapters and complete models."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ragkit._text import read_json
from ragkit.errors import IntegrityError, InvalidInputError
from ragkit.finetuning._manifest import MANIFEST, Manifest

_DEPTH = 5
_SKIPPED = {"node_modules", "checkpoints", "__pycache__"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A model in a folder.

    Attributes:
        spec: The spec for `ragkit.load_model`.
        kind: A model that `ragkit.finetune` wrote, a PEFT adapter, a complete model, or a model that cannot be read.
        base: The base model; None for a complete model.
        about: A short description, such as the method and the loss; of a damaged model the error.
    """

    spec: str
    kind: Literal["fine-tuned", "adapter", "model", "damaged"]
    base: str | None
    about: str


def find_models(folder: str | Path) -> list[FoundModel]:
    """Search a folder up to five levels deep for models, except for hidden folders; they are ordered by their paths."""
    top = Path(folder)
    if not top.is_dir():
        raise InvalidInputError(f"{top} is not a directory; pass the folder that contains the models")
    found: list[FoundModel] = []
    for path, below, files in os.walk(top):
        here = Path(path)
        model = _model_in(here, set(files))
        if model is not None:
            found.append(model)
        if model is not None or len(here.relative_to(top).parts) >= _DEPTH:
            below.clear()
        below[:] = sorted(name for name in below if not name.startswith(".") and name not in _SKIPPED)
    return found


def _model_in(folder: Path, files: set[str]) -> FoundModel | None:
    spec = f"hf:{folder}"
    try:
        if MANIFEST in files:
            return _tuned(spec, Manifest.read(folder))
        if "adapter_config.json" in files:
            facts = _json(folder / "adapter_config.json")
            rank = f", rank {facts['r']}" if "r" in facts else ""
            base = facts.get("base_model_name_or_path")
            base = None if base is None else str(base)
            return FoundModel(spec=spec, kind="adapter", base=base, about=f"{facts['peft_type']}{rank}")
        weights = [name for name in files if name.endswith((".safetensors", ".bin"))]
        if "config.json" in files and weights:
            kind = _json(folder / "config.json").get("model_type", "of an unknown type")
            size = sum((folder / name).stat().st_size for name in weights)
            return FoundModel(spec=spec, kind="model", base=None, about=f"{kind}, {size / 2**20:,.1f} MiB of weights")
    except (IntegrityError, OSError, ValueError, KeyError) as error:
        return FoundModel(spec=spec, kind="damaged", base=None, about=str(error))
    return None


def _tuned(spec: str, manifest: Manifest) -> FoundModel:
    loss = "loss unknown" if manifest.loss is None else f"loss {manifest.loss:.3f}"
    if manifest.eval_loss is not None:
        loss += f", on held-out rows {manifest.eval_loss:.3f}"
    about = f"{manifest.method}, {manifest.rows.get('kept', 0)} rows, {manifest.epochs:g} epochs, {loss}"
    return FoundModel(spec=spec, kind="fine-tuned", base=manifest.base, about=about)


def _json(path: Path) -> dict[str, object]:
    facts = read_json(path.read_bytes())
    if not isinstance(facts, dict):
        raise IntegrityError(f"{path} contains {type(facts).__name__}, expected a JSON object")
    return facts
