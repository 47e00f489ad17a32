"""Loading of PEFT adapters, with checks that PEFT omits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open

from ragkit._progress import quiet_transformers
from ragkit.errors import IntegrityError
from ragkit.finetuning._adapter_files import INITS_OF_BASE, read_settings, weights_file
from ragkit.finetuning._manifest import MANIFEST, Manifest
from ragkit.finetuning._soft_prompt import SoftPromptModel, read_vectors
from ragkit.models._local import LocalModel
from ragkit.models._sources import fingerprint_of, weights_of

# Name prefixes of stored embeddings: without a wrapper, or inside the wrappers of LoRA and trainable tokens.
_EMBEDDING_LAYERS = ("", "base_layer.", "token_adapter.base_layer.")


def put_on(module: Any, tokenizer: Any, adapter: str, *, name: str, fingerprint: str, source: str) -> LocalModel:
    """Return a base model, changed in place, with the adapter or soft prompt in a folder.

    The name of the model is its spec, and the fingerprint that of base model and adapter together.
    """
    if kind_of(adapter) == "PROMPT_TUNING":
        vectors = read_vectors(adapter, module.get_input_embeddings().weight.shape[1]).to(module.device)
        return SoftPromptModel(module, tokenizer, vectors, name=name, fingerprint=fingerprint, source=source)
    adapted = add_adapter(module, adapter, name="default", source=source)
    return LocalModel(adapted, tokenizer, name=name, fingerprint=fingerprint, source=source)


def kind_of(adapter: str) -> str:
    """Return PEFT's name for the type of an adapter, such as ``"LORA"``."""
    return str(read_settings(adapter)["peft_type"])


def add_adapter(module: Any, adapter: str | Path, *, name: str, source: str) -> Any:
    """Return a PEFT model after adding an adapter to a base model, or to the result of an earlier call, in place.

    The adapter has a name in PEFT, and the source of the base model is named in errors.

    Raises:
        IntegrityError: If the adapter is damaged or belongs to another base model.
        UnsupportedError: If the adapter has settings that are not supported, or its weights are in a pickle file.
    """
    settings, weights = read_settings(adapter), weights_file(adapter)
    try:
        rows = embedding_rows(module, adapter)
        if rows is not None:
            _resize(module, rows, adapter)
        inputs, outputs = module.get_input_embeddings(), module.get_output_embeddings()
        tied = rows is not None and outputs is not None and outputs.weight is inputs.weight
        config = PeftConfig.from_peft_type(**settings, inference_mode=True)
        # Weights are not allocated before they are read, so wrong settings do not take memory.
        late = settings.get("init_lora_weights") not in INITS_OF_BASE
        with quiet_transformers():
            if isinstance(module, PeftModel):
                module.add_adapter(name, config, low_cpu_mem_usage=late)
                module.load_adapter(str(adapter), name, low_cpu_mem_usage=late)
            else:
                module = PeftModel.from_pretrained(module, str(adapter), name, config=config, low_cpu_mem_usage=late)
        if tied:  # the embeddings of the adapter replaced only those of the inputs
            outputs.weight = inputs.weight
        # PEFT compares vocabularies with the recorded base model, which may have been moved since training.
        module.peft_config[name].base_model_name_or_path = module.get_base_model().name_or_path
        _check_all_there(module, weights, name, with_embeddings=rows is not None)
    except (
        RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, OSError,
        SafetensorError,
    ) as error:  # fmt: skip
        problem = (str(error).splitlines() or [type(error).__name__])[0]
        raise IntegrityError(
            f"{adapter} does not fit {source}: {problem}; the file is damaged, or the adapter belongs to another base"
        ) from error
    return module


def _resize(module: Any, rows: int, adapter: str | Path) -> None:
    """Resize the embeddings of a base model to those of an adapter; new rows are then loaded with the adapter."""
    inputs, outputs = module.get_input_embeddings(), module.get_output_embeddings()
    if rows == inputs.weight.shape[0]:
        return
    tied = outputs is None or outputs.weight is inputs.weight
    if not tied and _stored_rows(module, outputs, adapter) != rows:
        raise ValueError("it has tokens of its own, but their rows of the output layer are not stored with it")
    module.resize_token_embeddings(rows, mean_resizing=False)


def embedding_rows(module: Any, adapter: str | Path) -> int | None:
    """Return the number of rows of the input embedding stored with an adapter; None if it uses that of its base."""
    return _stored_rows(module, module.get_input_embeddings(), adapter)


def _stored_rows(module: Any, embedding: Any, adapter: str | Path) -> int | None:
    places = [name for name, part in module.named_modules() if part is embedding]
    names = {f"base_model.model.{name}.{layer}weight" for name in places for layer in _EMBEDDING_LAYERS}
    with safe_open(weights_file(adapter), framework="np") as file:
        stored = names & set(file.keys())
        return int(file.get_slice(stored.pop()).get_shape()[0]) if stored else None


def check_base(adapter: str, source: str) -> None:
    """Check that an adapter was trained on a base model, given in the format of `ragkit.models._sources.weights_of`.

    If the base model is recorded as a path that no longer exists, it cannot be compared; the shapes of the weights are
    checked when the adapter is loaded.

    Raises:
        IntegrityError: If the adapter was trained on another base model.
    """
    folder, place = Path(adapter), weights_of(source).place
    if folder.name == "model" and (folder.parent / MANIFEST).is_file():
        manifest = Manifest.read(folder.parent)
        recorded, is_other = manifest.base, manifest.base_fingerprint != fingerprint_of(source)
    else:
        recorded = str(read_settings(adapter)["base_model_name_or_path"] or "")
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


def _check_all_there(adapted: Any, weights: Path, name: str, *, with_embeddings: bool) -> None:
    """Check that all weights are used: PEFT initialises missing weights randomly and ignores unknown ones."""
    with safe_open(weights, framework="np") as file:
        stored = set(file.keys())
        kinds = {file.get_slice(key).get_dtype() for key in stored}
    if not kinds <= {"F32", "BF16", "F16"}:
        raise ValueError(f"its weights have the types {', '.join(sorted(kinds))}, expected F32, BF16 or F16")
    expected = set(get_peft_model_state_dict(adapted, adapter_name=name, save_embedding_layers=with_embeddings))
    if stored != expected:
        odd = sorted(stored ^ expected)[0]
        raise ValueError(f"{len(stored ^ expected)} weights are missing or too many, {odd!r} among them")
