"""Checks of foreign model folders before transformers reads them: file types, file names, and sizes.

A folder is data. Code in it is never run: every call of transformers sets ``trust_remote_code=False``, and weights are
read from safetensors files only. Symbolic links are followed, because the hub cache consists of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ragkit._text import read_json
from ragkit.errors import IntegrityError, InvalidInputError

_MIB = 2**20
# Maximum sizes; the files of large models have less than a third of them.
_FILES = {
    "config.json": _MIB,
    "generation_config.json": _MIB,
    "adapter_config.json": _MIB,
    "chat_template.json": _MIB,
    "chat_template.jinja": _MIB,
    "special_tokens_map.json": 4 * _MIB,
    "added_tokens.json": 16 * _MIB,
    "tokenizer_config.json": 16 * _MIB,
    "tokenizer.json": 256 * _MIB,
    "model.safetensors.index.json": 64 * _MIB,
}
_BITS = 8  # a stored byte holds at most eight weights
_LAYER_BYTES = 100  # of the header of a weights file, which names several weights of each layer
_WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_BESIDES = ("vocab_size", "intermediate_size", "n_inner", "ffn_dim", "num_attention_heads", "n_head", "head_dim",
            "num_local_experts", "num_experts", "n_routed_experts", "moe_intermediate_size", "n_positions")  # fmt: skip


def check_folder(folder: Path) -> None:
    """Check the settings of a model folder, and that its weights files are as large as the settings say.

    Raises:
        InvalidInputError: If a file is too large or does not have the expected form.
        IntegrityError: If the weights files are smaller than the settings say, or outside the folder.
    """
    parsed = [name for name in _FILES if name not in {"tokenizer.json", "chat_template.jinja"}]  # others take long
    settings = {name: _settings(folder / name, _FILES[name]) for name in parsed}
    for name, most in _FILES.items():
        _check_size(folder / name, most)
    for name in ("config.json", "generation_config.json"):
        for key in ("eos_token_id", "bos_token_id", "pad_token_id"):
            _expect(folder / name, key, settings[name].get(key), _is_token, "a token id or a list of token ids")
    tokenizer = settings["tokenizer_config.json"]
    for key, test, expected in (
        ("model_max_length", lambda value: isinstance(value, int | float), "a number"),
        ("chat_template", _is_template, "a template, or a list of named templates"),
    ):
        _expect(folder / "tokenizer_config.json", key, tokenizer.get(key), test, expected)
    for file in set(settings["model.safetensors.index.json"].get("weight_map") or {}.values()):
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise IntegrityError(f"{folder} names {file!r} as weights; expected safetensors files in the same folder")
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if weights:
        check_sizes(settings["config.json"], weights, str(folder))


def check_sizes(config: Mapping[str, Any], weights: int, name: str) -> None:
    """Check that a model that is described by a config can be stored in weights files of a total size in bytes."""
    for part in _parts(config):
        width = max((_number(part.get(key)) for key in _WIDTHS), default=0)
        needed = {key: _number(part.get(key)) * max(1, width) for key in _BESIDES}
        needed |= {key: _number(part.get(key)) * _BITS * _LAYER_BYTES for key in _LAYERS}
        key = max(needed, key=lambda key: needed[key])
        if needed[key] > weights * _BITS:
            raise IntegrityError(
                f"{name} describes a model with `{key}` = {part[key]:,}, but its weights have only {weights:,} bytes; "
                "copy or download the folder again"
            )


def check_complete(missing: list[str], model_type: str, name: str) -> None:
    """Reject a model with missing weights, which transformers would initialise randomly."""
    if missing:
        raise IntegrityError(
            f"{name} lacks {len(missing)} weights of a {model_type} model, such as {sorted(missing)[0]}; "
            "download the file again"
        )


def _settings(path: Path, most: int) -> Mapping[str, Any]:
    if not _check_size(path, most):
        return {}
    try:
        found = read_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInputError(f"{path} must contain a JSON object, got {type(found).__name__}")
    return found


def _check_size(path: Path, most: int) -> bool:
    """Return whether a file exists, and check that it is not too large to read."""
    if not path.exists():
        return False
    size = path.stat().st_size
    if not path.is_file() or size > most:
        raise InvalidInputError(f"{path} must be a file of at most {most:,} bytes, got {size:,} bytes")
    return True


def _expect(path: Path, key: str, value: Any, test: Any, expected: str) -> None:
    if value is not None and not test(value):
        raise InvalidInputError(f"`{key}` in {path} must be {expected}, got {str(value)[:80]!r}")


def _is_token(value: Any) -> bool:
    ids = value if isinstance(value, list) else [value]
    return all(isinstance(each, int) and not isinstance(each, bool) for each in ids)


def _is_template(value: Any) -> bool:
    parts = (
        [each.get("template") if isinstance(each, dict) else None for each in value] if isinstance(value, list) else []
    )
    return isinstance(value, str) or (bool(parts) and all(isinstance(each, str) for each in parts))


def _parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a config and the configs of its parts, such as ``text_config``."""
    yield config
    yield from (each for each in config.values() if isinstance(each, Mapping))


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
