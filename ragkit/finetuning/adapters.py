"""Loading of PEFT adapters, with checks that PEFT omits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open

from ragkit.errors import IntegrityError
from ragkit.finetuning.manifest import MANIFEST, Manifest
from ragkit.finetuning.soft_prompt import WEIGHTS, SoftPromptModel, read_vectors
from ragkit.models.local import LocalModel
from ragkit.models.sources import fingerprint_of, weights_of
from ragkit.progress import quiet_transformers
from ragkit.text import read_json

# Name prefixes of stored embeddings: without a wrapper, or inside the wrappers of LoRA and trainable tokens.
_EMBEDDING_LAYERS = ("", "base_layer.", "token_adapter.base_layer.")


def put_on(module: Any, tokenizer: Any, adapter: str, *, name: str, fingerprint: str, source: str) -> LocalModel:
    """Apply an adapter or a soft prompt to a base model.

    Args:
        module: The base model, which is changed in place.
        tokenizer: Its tokenizer.
        adapter: Folder or hub id of the PEFT adapter.
        name: The name of the model, which is its spec.
        fingerprint: Fingerprint of base model and adapter together.
        source: Spec or folder of the base model.

    Returns:
        The model.
    """
    if kind_of(adapter) == "PROMPT_TUNING":
        vectors = read_vectors(adapter, module.get_input_embeddings().weight.shape[1]).to(module.device)
        return SoftPromptModel(module, tokenizer, vectors, name=name, fingerprint=fingerprint, source=source)
    adapted = add_adapter(module, adapter, name="default", source=source)
    return LocalModel(adapted, tokenizer, name=name, fingerprint=fingerprint, source=source)


def add_adapter(module: Any, adapter: str, *, name: str, source: str) -> Any:
    """Add an adapter to a base model, which can already have others.

    Args:
        module: The base model, or the result of an earlier call; it is changed in place.
        adapter: Folder or hub id of the PEFT adapter.
        name: Name of the adapter in PEFT.
        source: Spec or folder of the base model, for messages.

    Returns:
        The PEFT model.

    Raises:
        IntegrityError: If the adapter is damaged or belongs to another base model.
    """
    try:
        rows = embedding_rows(module, adapter)
        if rows is not None:
            _resize(module, rows, adapter)
        with quiet_transformers():
            if isinstance(module, PeftModel):
                module.load_adapter(adapter, adapter_name=name)
            else:
                module = PeftModel.from_pretrained(module, adapter, adapter_name=name)
        # PEFT compares vocabularies with the recorded base model, which may have been moved since training.
        module.peft_config[name].base_model_name_or_path = module.get_base_model().name_or_path
        _check_all_there(module, Path(adapter) / WEIGHTS, name, with_embeddings=rows is not None)
    except (RuntimeError, ValueError, KeyError, OSError, SafetensorError) as error:
        problem = str(error).splitlines()[0]
        raise IntegrityError(
            f"{adapter} does not fit {source}: {problem}; the file is damaged, or the adapter belongs to another base"
        ) from error
    return module


def _resize(module: Any, rows: int, adapter: str) -> None:
    """Resize the embeddings of a base model to those of an adapter; new rows are then loaded with the adapter."""
    inputs, outputs = module.get_input_embeddings(), module.get_output_embeddings()
    if rows == inputs.weight.shape[0]:
        return
    tied = outputs is None or outputs.weight is inputs.weight
    if not tied and _stored_rows(module, outputs, adapter) != rows:
        raise ValueError("it has tokens of its own, but their rows of the output layer are not stored with it")
    module.resize_token_embeddings(rows, mean_resizing=False)


def embedding_rows(module: Any, adapter: str) -> int | None:
    """Return the number of rows of the input embedding stored with an adapter; None if it uses that of its base."""
    return _stored_rows(module, module.get_input_embeddings(), adapter)


def _stored_rows(module: Any, embedding: Any, adapter: str) -> int | None:
    path = Path(adapter) / WEIGHTS
    if not path.is_file():
        return None
    places = [name for name, part in module.named_modules() if part is embedding]
    names = {f"base_model.model.{name}.{layer}weight" for name in places for layer in _EMBEDDING_LAYERS}
    with safe_open(path, framework="np") as file:
        stored = names & set(file.keys())
        return int(file.get_slice(stored.pop()).get_shape()[0]) if stored else None


def check_base(adapter: str, source: str) -> None:
    """Check that an adapter was trained on a base model.

    If the base model is recorded as a path that no longer exists, it cannot be compared; the shapes of the weights are
    checked when the adapter is loaded.

    Args:
        adapter: Folder or hub id of the PEFT adapter.
        source: Source of the base model, in the format of `ragkit.models.sources.weights_of`.

    Raises:
        IntegrityError: If the adapter was trained on another base model.
    """
    folder, place = Path(adapter), weights_of(source).place
    if folder.name == "model" and (folder.parent / MANIFEST).is_file():
        manifest = Manifest.read(folder.parent)
        recorded, is_other = manifest.base, manifest.base_fingerprint != fingerprint_of(source)
    else:
        recorded = str(_config_of(adapter).get("base_model_name_or_path") or "")
        if Path(place).is_dir():
            known = Path(recorded).is_dir() and not Path(recorded).samefile(place)
            is_other = known and fingerprint_of(recorded) != fingerprint_of(source)
        else:
            is_other = recorded.count("/") == 1 and not Path(recorded).is_dir() and recorded != place
    if is_other:
        raise IntegrityError(
            f"{adapter} belongs to another base: it was trained on {recorded}, not on {source}; "
            f"load it on its own base with load_model('hf:{adapter}')"
        )


def kind_of(adapter: str) -> str:
    """Return PEFT's name for the type of an adapter, such as ``"LORA"``; nothing for a hub id."""
    config = _config_of(adapter)
    return str(config["peft_type"]) if config else ""


def _config_of(adapter: str) -> dict[str, Any]:
    """Return the PEFT configuration of an adapter; empty for a hub id."""
    path = Path(adapter) / "adapter_config.json"
    if not path.is_file():
        return {}
    try:
        config = cast("Any", read_json(path.read_bytes()))
        return {**config, "peft_type": config["peft_type"]}
    except (ValueError, LookupError, TypeError) as error:
        raise IntegrityError(f"{path} is damaged ({error}); copy the folder again") from error


def _check_all_there(adapted: Any, weights: Path, name: str, *, with_embeddings: bool) -> None:
    """Check that all weights are used: PEFT initialises missing weights randomly and ignores unknown ones."""
    if not weights.is_file():
        return
    with safe_open(weights, framework="np") as file:
        stored = set(file.keys())
    expected = set(get_peft_model_state_dict(adapted, adapter_name=name, save_embedding_layers=with_embeddings))
    if stored != expected:
        odd = sorted(stored ^ expected)[0]
        raise ValueError(f"{len(stored ^ expected)} weights are missing or too many, {odd!r} among them")
