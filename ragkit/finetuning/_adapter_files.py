"""Files of PEFT adapters, whose settings are checked before PEFT sees them.

PEFT takes some settings as regular expressions, modules to import, files to read or repositories to download. An
adapter may come from anyone, so its settings may only be numbers, names of layers and known words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ragkit._text import read_json
from ragkit.errors import IntegrityError, InvalidInputError, UnsupportedError

SETTINGS = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PICKLES = ("adapter_model.bin", "pytorch_adapter.bin")
_MOST_BYTES = 2**22  # of the settings; those of an adapter that names every layer of a large model take 2**16
_LARGEST = 2**31
_LARGEST_RANK = 256  # of an adapter whose weights are allocated before they are read
# Initialisations that compute an adapter from the base model, so its weights must be allocated first.
INITS_OF_BASE = ("olora", "orthogonal", "pissa")
_LAYER = re.compile(r"[\w.-]{1,200}")
# PEFT matches these as regular expressions, which is fast without repetition.
_PATTERN = re.compile(r"\^?[\w.-]{1,200}\$?")

# Types of adapters that consist of weights alone, and the soft prompts of `ragkit.finetuning._soft_prompt`.
_TYPES = frozenset({
    "ADALORA", "BOFT", "C3A", "DELORA", "FOURIERFT", "HRA", "IA3", "LN_TUNING", "LOHA", "LOKR", "LORA", "MISS", "OFT",
    "PROMPT_TUNING", "RANDLORA", "ROAD", "SHIRA", "TRAINABLE_TOKENS", "VBLORA", "VERA", "WAVEFT",
})  # fmt: skip
# Settings that are stored but have no effect on a loaded adapter.
_UNUSED = frozenset({
    "auto_mapping", "base_model_name_or_path", "inference_mode", "loftq_config", "megatron_core", "peft_type",
    "peft_version", "prompt_tuning_init", "prompt_tuning_init_text", "revision", "runtime_config", "task_type",
    "tokenizer_kwargs", "tokenizer_name_or_path",
})  # fmt: skip
_LAYERS = frozenset({"exclude_modules", "feedforward_modules", "layers_pattern", "modules_to_save", "target_modules",
                     "target_parameters"})  # fmt: skip
_WORDS = {
    "bias": {"none", "all", "lora_only", "boft_only", "hra_only", "oft_only", "vera_only"},
    "init_lora_weights": {"gaussian", *INITS_OF_BASE},
    "init_weights": {"lycoris", "bat", "mini"},
    "target_modules": {"all-linear"},
    "variant": {"road_1", "road_2", "road_4"},
}  # fmt: skip


def adapter_folder(adapter: str) -> str:
    """Return the folder of an adapter; one of the hub is downloaded, without files that ragkit does not read."""
    if Path(adapter).is_dir():
        return adapter
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(adapter, allow_patterns=[WEIGHTS, "*.json", "*.txt", "*.jinja", "*.model"]))
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"{adapter} is not a folder and cannot be loaded from the hub ({str(error)[:500]}); give the folder of a "
            "PEFT adapter"
        ) from error


def read_settings(folder: str | Path) -> dict[str, object]:
    """Return the settings of an adapter that have an effect, with ``peft_type``, ``task_type`` and the base model.

    Raises:
        IntegrityError: If the file is missing or damaged, or a setting has a wrong type.
        UnsupportedError: If the type of adapter or a setting is not supported.
    """
    path = Path(folder) / SETTINGS
    try:
        return _checked(_json_object(path))
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {error}") from None
    except (OSError, InvalidInputError) as error:
        raise IntegrityError(f"{path} is missing or damaged: {error}; copy the folder again") from error


def _json_object(path: Path) -> dict[str, object]:
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        raise InvalidInputError(f"it must be a file of at most {_MOST_BYTES:,} bytes")
    found = read_json(path.read_bytes())
    if not isinstance(found, dict):
        raise InvalidInputError("it must contain a JSON object")
    return found


def _checked(given: Mapping[str, object]) -> dict[str, object]:
    known = {name: given.get(name) for name in ("peft_type", "task_type", "base_model_name_or_path")}
    for name, value in known.items():
        if value is not None and not (isinstance(value, str) and len(value) < 4096 and value.isprintable()):
            raise InvalidInputError(f"`{name}` must be a name")
    if known["peft_type"] not in _TYPES:
        raise UnsupportedError(f"adapters of the type {known['peft_type']!r} are not supported")
    kept = {name: value for name, value in given.items() if name not in _UNUSED and value not in (None, {})}
    for name, value in kept.items():
        _check(name, value)
    if kept.get("init_lora_weights") in INITS_OF_BASE:
        _check_rank(kept)
    return kept | known


def check_checkpoint(folder: Path) -> None:
    """Check the weights of a trainer's checkpoint, which contains an adapter or all weights of a model."""
    if (folder / SETTINGS).exists():
        read_settings(folder)
        weights_file(folder)
    elif not any(folder.rglob("*.safetensors")):
        raise IntegrityError(f"{folder} holds no weights in safetensors; delete the folder and train again")


def base_of(folder: str | Path) -> str:
    """Return the hub id or folder of the base model on which an adapter was trained."""
    base = read_settings(folder)["base_model_name_or_path"]
    if not base:
        raise InvalidInputError(f"{folder} does not name its base model; load the base with `adapter={str(folder)!r}`")
    return str(base)


def check_whole(place: str) -> None:
    """Refuse a base model with an adapter in its folder or repository, which transformers would load unchecked."""
    from transformers.utils import find_adapter_config_file

    if find_adapter_config_file(place) is not None:
        raise UnsupportedError(
            f"{place} holds an adapter, so it cannot be a base model; give the adapter, or remove its {SETTINGS}"
        )


def weights_file(folder: str | Path) -> Path:
    """Return the file with an adapter's weights.

    Raises:
        UnsupportedError: If the weights are stored as a pickle file, which can contain code.
        IntegrityError: If the folder contains no weights.
    """
    path = Path(folder) / WEIGHTS
    if path.is_file():
        return path
    pickled = next((name for name in _PICKLES if (path.parent / name).exists()), None)
    if pickled is None:
        raise IntegrityError(f"{folder} holds no {WEIGHTS}; copy the folder again or train again")
    raise UnsupportedError(
        f"{folder} stores its weights in {pickled}, a pickle file, which can run code; ragkit reads only {WEIGHTS}. "
        f"Convert it: safetensors.torch.save_file(torch.load({pickled!r}, weights_only=True), {WEIGHTS!r})"
    )


def _check(name: str, value: object) -> None:
    """Check that a setting can only be a number, names of layers or a known word."""
    if isinstance(value, str):
        if value in _WORDS.get(name, ()) or (name == "layers_pattern" and _LAYER.fullmatch(value)):
            return
        if name in _LAYERS:
            raise UnsupportedError(
                f"`{name}` must be a list of names, not the regular expression {value[:80]!r}; list the layers"
            )
        raise UnsupportedError(f"`{name}` has the unknown value {value[:80]!r}")
    if name in _LAYERS:
        if not isinstance(value, list) or not all(isinstance(each, str) and _LAYER.fullmatch(each) for each in value):
            raise InvalidInputError(f"`{name}` must be a list of names of layers")
    elif isinstance(value, Mapping):
        if not name.endswith(("_pattern", "_indices")) or not all(map(_PATTERN.fullmatch, value)):
            raise UnsupportedError(f"`{name}` must be absent, or numbers by names of layers")
        for each in value.values():
            _check_numbers(name, each)
    else:
        _check_numbers(name, value)


def _check_rank(settings: Mapping[str, object]) -> None:
    pattern = settings.get("rank_pattern", {})
    for rank in (settings.get("r", 0), *(pattern.values() if isinstance(pattern, Mapping) else [])):
        if not isinstance(rank, int) or rank > _LARGEST_RANK:
            raise UnsupportedError(f"`r` must be at most {_LARGEST_RANK} with this `init_lora_weights`, got {rank!r}")


def _check_numbers(name: str, value: object) -> None:
    for number in value if isinstance(value, list) else [value]:
        if not isinstance(number, int | float) or not abs(number) <= _LARGEST:  # also refuses NaN
            raise InvalidInputError(f"`{name}` must be a finite number of at most {_LARGEST}, got {repr(value)[:80]}")
