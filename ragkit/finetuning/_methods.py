"""The fine-tuning methods: adapters, the last blocks, soft prompts, or all weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PromptTuningConfig, get_peft_model, prepare_model_for_kbit_training
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils.other import get_pattern_key
from transformers import AutoModelForCausalLM

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.finetuning._adapter_files import check_whole
from ragkit.finetuning._four_bit import four_bit_config
from ragkit.finetuning._settings import Settings
from ragkit.models._devices import has_bfloat16
from ragkit.models._local import LocalModel
from ragkit.models._sources import weights_of

ADAPTERS = ("lora", "rslora", "qlora", "prompt-tuning")

# The best rate for a model with 135 million parameters, or half of it if twice the best rate diverged; see
# benchmarks/real_models/results/learning_rate.json.
_MEASURED_SIZE = 135e6
_RATES = {"lora": 1.5e-3, "qlora": 1.5e-3, "rslora": 1e-3, "prompt-tuning": 1.5e-2, "last-layers": 1e-3, "full": 1e-4}
_PREFERENCE = 1 / 40  # preference training refines a model that already answers


def default_rate(method: str, objective: str, parameters: int) -> float:
    """Return the default peak learning rate for a method, an objective and a number of parameters.

    The rate is inversely proportional to the fourth root of the number of parameters, or to the square root if all
    weights are trained. For preferences, it is divided by 40.
    """
    rate: float = _RATES[method] * (_MEASURED_SIZE / parameters) ** (1 / 2 if method == "full" else 1 / 4)
    return rate * _PREFERENCE if objective == "preference" else rate


def copy_of(base: LocalModel, *, dtype: Any = torch.float32, four_bit: bool = False) -> Any:
    """Load a copy of a base model, with its adapter merged."""
    place = weights_of(base.source).place
    check_whole(place)
    module = AutoModelForCausalLM.from_pretrained(
        place,
        dtype=dtype,
        quantization_config=four_bit_config() if four_bit else None,
        trust_remote_code=False,
        use_safetensors=True,
    )
    adapted = base.module
    if not hasattr(adapted, "peft_config"):
        return module
    name, rows = adapted.active_adapter, adapted.get_input_embeddings().weight.shape[0]
    if rows != module.get_input_embeddings().weight.shape[0]:  # the adapter adds tokens
        module.resize_token_embeddings(rows, mean_resizing=False)
    fresh = get_peft_model(module, adapted.peft_config[name])
    weights = get_peft_model_state_dict(adapted, adapter_name=name, save_embedding_layers=True)
    set_peft_model_state_dict(fresh, weights)
    return fresh.merge_and_unload().requires_grad_(requires_grad=True)  # PEFT froze the base


def module_to_train(base: LocalModel, settings: Settings) -> Any:
    """Load a copy of a base model for training, and freeze the weights that the method does not train."""
    half = has_bfloat16() and settings.method in ADAPTERS and not hasattr(base.module, "peft_config")
    module = copy_of(base, dtype=torch.bfloat16 if half else torch.float32, four_bit=settings.method == "qlora")
    if settings.method == "qlora":
        module = prepare_model_for_kbit_training(module, use_gradient_checkpointing=settings.gradient_checkpointing)
    if settings.method == "last-layers":
        freeze_all_but_last(module, settings.layers)
    return module


def peft_config_of(settings: Settings) -> Any:
    """Return the PEFT configuration of the user, or the default of the method.

    Returns:
        A `PeftConfig`; None if the method trains the model's own weights.

    Raises:
        InvalidInputError: If the user's configuration does not match the method.
    """
    given, method = settings.peft_config, settings.method
    if method not in ADAPTERS:
        return None
    if given is not None:
        if not isinstance(given, PeftConfig):
            raise InvalidInputError(
                f"`peft_config` must be a PeftConfig such as peft.LoraConfig, got {type(given).__name__}"
            )
        if method == "prompt-tuning" and type(given) is not PromptTuningConfig:
            raise InvalidInputError(f"'prompt-tuning' takes a PromptTuningConfig, got {type(given).__name__}")
        if method != "prompt-tuning" and given.is_prompt_learning:
            raise InvalidInputError(f"{method!r} takes an adapter's configuration, got {type(given).__name__}")
        return copy.deepcopy(given)  # PEFT modifies it
    if method == "prompt-tuning":
        return PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=16, prompt_tuning_init="SAMPLE_VOCAB")
    if method == "rslora":  # alpha / sqrt(r) gives a factor of 2, as for "lora"
        return LoraConfig(r=64, lora_alpha=16, use_rslora=True, target_modules="all-linear", task_type="CAUSAL_LM")
    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def name_layers(adapted: Any) -> None:
    """Replace the regular expressions in a user's settings by names of layers, because folders contain only names."""
    names = getattr(adapted.base_model, "targeted_module_names", [])
    for config in adapted.peft_config.values():
        given = [getattr(config, name, None) for name in ("target_modules", "exclude_modules", "layers_pattern")]
        if names and any(isinstance(each, str) for each in given):
            config.target_modules = set(names)
            config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
        for name in ("rank_pattern", "alpha_pattern"):
            if values := getattr(config, name, None):
                keys = {layer: get_pattern_key(values, layer) for layer in names}
                setattr(config, name, {layer: values[key] for layer, key in keys.items() if key in values})


def freeze_all_but_last(module: Any, layers: int) -> None:
    """Freeze all weights except the last ``layers`` blocks, the norm after them and the head.

    A head that shares its weights with the input embedding remains frozen, because it is also the first layer.

    Raises:
        InvalidInputError: If the model has fewer blocks.
    """
    owner, blocks = _blocks_of(module)
    if layers > len(blocks):
        raise InvalidInputError(f"`layers` must be at most {len(blocks)}, the blocks of this model; got {layers}")
    module.requires_grad_(requires_grad=False)
    head, embedding = module.get_output_embeddings(), module.get_input_embeddings()
    norms = [part for part in owner.children() if part is not blocks and _is_norm(part)]
    heads = [] if head is None or head.weight is embedding.weight else [head]
    for part in (*blocks[len(blocks) - layers :], *norms, *heads):
        part.requires_grad_(requires_grad=True)


def _blocks_of(module: Any) -> tuple[Any, Any]:
    """Return the module that contains a model's blocks, and the list of blocks."""
    count = module.config.get_text_config().num_hidden_layers
    for owner in module.modules():
        for part in owner.children():
            if isinstance(part, torch.nn.ModuleList) and len(part) == count:
                return owner, part
    raise UnsupportedError(f"the blocks of {type(module).__name__} cannot be identified; use method='lora'")


def _is_norm(part: Any) -> bool:
    sizes = [weight.dim() for weight in part.parameters()]
    return bool(sizes) and max(sizes) == 1
