"""Loading of local models from a spec, a folder or a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import cached_file, find_adapter_config_file

from ragkit._extras import require
from ragkit._progress import quiet_transformers
from ragkit.errors import IntegrityError, InvalidInputError, RagkitError, UnsupportedError
from ragkit.finetuning._adapter_files import SETTINGS, adapter_folder, base_of, check_whole
from ragkit.finetuning._four_bit import four_bit_config
from ragkit.finetuning._manifest import MANIFEST, Manifest
from ragkit.models._devices import AnyDtype, default_device, dtype_for
from ragkit.models._half_precision import HalfPrecision
from ragkit.models._local import LocalModel
from ragkit.models._model_folder import check_complete, check_folder
from ragkit.models._reasoning import ReasoningLevel
from ragkit.models._sources import Weights, fingerprint_of, is_named, source_of, weights_of

if TYPE_CHECKING:
    from ragkit.protocols import LanguageModel


def load_local(
    spec: str,
    *,
    adapter: str | None = None,
    dtype: AnyDtype = "auto",
    reasoning: ReasoningLevel | None = None,
    max_reasoning_tokens: int | None = None,
) -> LanguageModel:
    """Load ``"smollm2"``, ``"tiny"``, ``"gemma3-270m"``, ``"gguf:<file>"`` or ``"hf:<hub id or folder>"``.

    A folder contains a model, a PEFT adapter, or the output of `ragkit.finetune`. The arguments are those of
    `ragkit.load_model`.

    Returns:
        A language model.

    Raises:
        InvalidInputError: If the model does not exist, or the folder belongs to an unfinished run.
        RagkitError: If an output folder of `ragkit.finetune` is damaged, or its base model differs from that of
            training.
        UnsupportedError: If the model has no switch for reasoning.
    """
    source = source_of(spec)
    if adapter is not None and not _is_folder(adapter) and adapter.count("/") != 1:  # not a hub id either
        raise InvalidInputError(f"there is no folder {adapter}; give the folder of a PEFT adapter")
    if not is_named(source) and not _is_folder(source) and source.count("/") > 1:
        raise InvalidInputError(f"{spec[:200]!r} cannot be loaded: there is no such folder, and this is not a hub id")
    try:
        if is_named(source):
            adapter = None if adapter is None else adapter_folder(adapter)
            loaded: LanguageModel = load_causal(source, name=spec, adapter=adapter, dtype=dtype)
        else:
            loaded = _load_source(source, spec, adapter, dtype)
    except RagkitError:
        raise
    except Exception as error:  # transformers, peft and tokenizers raise errors of any type
        raise InvalidInputError(
            f"{spec[:200]!r}{'' if adapter is None else f' with the adapter {adapter}'} cannot be loaded: "
            f"{' '.join(str(error)[:1000].split()) or type(error).__name__} (expected a folder with a model, or a hub "
            "id that was downloaded or can be)"
        ) from error
    if reasoning is not None or max_reasoning_tokens is not None:
        if not isinstance(loaded, LocalModel):
            raise UnsupportedError(f"{spec[:200]} is a classifier; omit `reasoning` and `max_reasoning_tokens`")
        loaded.set_reasoning(reasoning, max_reasoning_tokens)
    return loaded


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # not a valid file name
        return False


def _load_source(source: str, spec: str, adapter: str | None, dtype: AnyDtype) -> LanguageModel:
    folder = Path(source)
    if folder.is_dir() and (folder / MANIFEST).is_file():
        if adapter is not None:
            raise InvalidInputError(f"{source} is fine-tuned already; `adapter` needs a base model")
        return load_tuned(folder, dtype=dtype)
    if folder.is_dir() and not (folder / "config.json").is_file() and not (folder / SETTINGS).is_file():
        raise InvalidInputError(
            f"{source} holds no model: expected config.json, {SETTINGS} or {MANIFEST} "
            "(the last is written when a fine-tuning run finishes)"
        )
    if adapter is None and find_adapter_config_file(source) is not None:
        adapter = adapter_folder(source)
        source = base_of(adapter)
    elif adapter is not None:
        require("peft")
        from ragkit.finetuning._adapters import check_base

        adapter = adapter_folder(adapter)
        check_base(adapter, source)
    return load_causal(source, name=spec, adapter=adapter, dtype=dtype)


def load_causal(
    source: str, *, name: str, adapter: str | None = None, four_bit: bool = False, dtype: AnyDtype = "auto"
) -> LocalModel:
    """Load a base model from its source (see `weights_of`), with an optional PEFT adapter or soft prompt.

    Args:
        source: Source of the base model.
        name: The name of the model, which is its spec.
        adapter: Folder of the adapter.
        four_bit: Whether to quantize the base model to 4 bits, which requires a GPU.
        dtype: Precision of the weights.

    Returns:
        The model.
    """
    base = weights_of(source)
    check_whole(base.place)
    quantized = four_bit_config() if four_bit else None
    check_folder(
        Path(base.place) if _is_folder(base.place) else Path(str(cached_file(base.place, "config.json"))).parent
    )
    if adapter is not None and _is_folder(adapter):
        check_folder(Path(adapter))
    with quiet_transformers():
        stored = AutoConfig.from_pretrained(base.place, trust_remote_code=False).dtype
        chosen = dtype_for(dtype, stored)
        module, report = AutoModelForCausalLM.from_pretrained(
            base.place, dtype=chosen, quantization_config=quantized, trust_remote_code=False, use_safetensors=True,
            output_loading_info=True,
        )  # fmt: skip
        check_complete(sorted(report["missing_keys"]), module.config.model_type, source)
        # An adapter may include its own tokenizer, chat template and additional tokens.
        own = adapter is not None and (Path(adapter) / "tokenizer_config.json").is_file()
        place = adapter if own else base.place
        tokenizer = AutoTokenizer.from_pretrained(place, padding_side="left", trust_remote_code=False)
        if own and len(tokenizer) > module.get_input_embeddings().weight.shape[0]:
            _check_tokens(module, tokenizer, adapter, base.place)
    fingerprint = f"{base.fingerprint}:{'4bit' if four_bit else str(chosen).removeprefix('torch.')}"
    module = module if four_bit else module.to(default_device())
    products = HalfPrecision(module.float()) if HalfPrecision.suits(module) else None
    if adapter is None:
        model = LocalModel(module, tokenizer, name=name, fingerprint=fingerprint, source=source)
    else:
        require("peft")
        from ragkit.finetuning._adapters import put_on

        fingerprint += f"+{Weights(adapter).fingerprint}"
        model = put_on(module, tokenizer, adapter, name=name, fingerprint=fingerprint, source=source)
    model.products = products
    return model


def _check_tokens(module: Any, tokenizer: Any, adapter: str | None, base: str) -> None:
    """Reject an adapter with additional tokens whose embeddings were not saved: they would be random."""
    from ragkit.finetuning._adapters import embedding_rows

    before = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    if adapter is None or len(tokenizer) <= len(before) or embedding_rows(module, adapter) is not None:
        return
    raise IntegrityError(
        f"the tokenizer of {adapter} has {len(tokenizer) - len(before)} tokens more than that of its base {base}, but "
        "their embeddings are not stored with the adapter; save it with `save_embedding_layers=True`"
    )


def load_tuned(folder: Path, *, dtype: AnyDtype = "auto") -> LanguageModel:
    """Load a model from an output folder of `ragkit.finetune`, after checking that its base is unchanged.

    Returns:
        The fine-tuned model.

    Raises:
        IntegrityError: If the base differs from that of training, or the weights have changed since.
        InvalidInputError: If the model is hosted by a vendor.
        UnsupportedError: If the model is a classifier and `dtype` is not ``"auto"``.
    """
    manifest = Manifest.read(folder)
    manifest.check_weights(folder)
    if manifest.kind == "classifier":
        if dtype != "auto":
            raise UnsupportedError(f"{folder} is a classifier, whose precision is fixed; omit `dtype`, got {dtype!r}")
        from ragkit.models._encoder_classifier import EncoderClassifier

        return EncoderClassifier.load(folder, manifest)
    name = f"hf:{folder}"
    if manifest.form == "remote":
        raise InvalidInputError(f"{folder} stands for {manifest.remote}, which is not on this machine")
    if manifest.form == "model":
        return load_causal(str(folder / "model"), name=name, dtype=dtype)
    manifest.check_base(folder, fingerprint_of(manifest.base))
    return load_causal(
        manifest.base, name=name, adapter=str(folder / "model"), four_bit=manifest.method == "qlora", dtype=dtype
    )
