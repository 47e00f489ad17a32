"""PEFT's adapters on a loaded base, checked where PEFT is silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open

from ragkit.errors import IntegrityError
from ragkit.finetuning.soft_prompt import WEIGHTS, SoftPromptModel, read_vectors
from ragkit.models.local import LocalModel
from ragkit.progress import quiet_transformers
from ragkit.text import read_json


def put_on(module: Any, tokenizer: Any, adapter: str, *, name: str, fingerprint: str, source: str) -> LocalModel:
    """Put an adapter or a soft prompt on a base.

    Args:
        module: The base, which is changed in place.
        tokenizer: Its tokenizer.
        adapter: Folder or hub id of what PEFT stored.
        name: The spec shown to others.
        fingerprint: That of base and adapter together.
        source: Spec or folder of the base.

    Returns:
        The model.

    Raises:
        IntegrityError: If the adapter is damaged or made for another base.
    """
    if kind_of(adapter) == "PROMPT_TUNING":
        vectors = read_vectors(adapter, module.get_input_embeddings().weight.shape[1]).to(module.device)
        return SoftPromptModel(module, tokenizer, vectors, name=name, fingerprint=fingerprint, source=source)
    adapted = add_adapter(module, adapter, name="default", source=source)
    return LocalModel(adapted, tokenizer, name=name, fingerprint=fingerprint, source=source)


def add_adapter(module: Any, adapter: str, *, name: str, source: str) -> Any:
    """Put an adapter on a base, beside those that are on it.

    Args:
        module: The base, or what this function gave; it is changed in place.
        adapter: Folder or hub id of what PEFT stored.
        name: What PEFT calls it.
        source: Spec or folder of the base, for messages.

    Returns:
        PEFT's model.

    Raises:
        IntegrityError: If the adapter is damaged or made for another base.
    """
    try:
        with quiet_transformers():
            if isinstance(module, PeftModel):
                module.load_adapter(adapter, adapter_name=name)
            else:
                module = PeftModel.from_pretrained(module, adapter, adapter_name=name)
        # PEFT compares vocabularies with the base that training named, which may be in another place by now.
        module.peft_config[name].base_model_name_or_path = module.get_base_model().name_or_path
        _check_all_there(module, Path(adapter) / WEIGHTS, name)
    except (RuntimeError, ValueError, KeyError, OSError, SafetensorError) as error:
        problem = str(error).splitlines()[0]
        raise IntegrityError(
            f"{adapter} does not go on {source}: {problem}; the file is damaged, or the adapter belongs to another base"
        ) from error
    return module


def kind_of(adapter: str) -> str:
    """PEFT's name for the kind of an adapter, such as ``"LORA"``.

    Returns:
        The name; nothing for a hub id.

    Raises:
        IntegrityError: If the folder's configuration is damaged.
    """
    path = Path(adapter) / "adapter_config.json"
    if not path.is_file():  # a hub id
        return ""
    try:
        return str(cast("Any", read_json(path.read_bytes()))["peft_type"])
    except (ValueError, LookupError, TypeError) as error:
        raise IntegrityError(f"{path} is damaged ({error}); copy the folder again") from error


def _check_all_there(adapted: Any, weights: Path, name: str) -> None:
    """PEFT leaves at random what a file does not hold, and passes over what the base has no place for."""
    if not weights.is_file():
        return
    with safe_open(weights, framework="np") as file:
        stored = set(file.keys())
    expected = set(get_peft_model_state_dict(adapted, adapter_name=name))
    if stored != expected:
        odd = sorted(stored ^ expected)[0]
        raise ValueError(f"{len(stored ^ expected)} weights are missing or too many, {odd!r} among them")
