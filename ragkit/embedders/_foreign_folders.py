"""Checks of model folders from strangers, before sentence-transformers or transformers read them.

The configuration files of such a folder can name Python callables that sentence-transformers imports and calls, code
on the hub, and other models. Only a short list of names is accepted. Everything else in a folder is numbers and text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, cast

from ragkit._text import read_json
from ragkit.errors import InvalidInputError

_LARGEST = 2**24  # bytes of a configuration file
_DEEPEST = 50  # folders of modules inside each other, and mappings of a configuration
_MODULES = "modules.json"
_ROUTES = ("router_config.json", "config.json")  # the latter in folders of older versions
_PROMPTS = "config_sentence_transformers.json"
_MODULE = re.compile(
    r"sentence_transformers(\.[a-z][a-z0-9_]*){1,4}\.(Transformer|Pooling|Normalize|Dense|LayerNorm|Dropout|"
    r"StaticEmbedding|WeightedLayerPooling|CNN|LSTM|BoW|WordEmbeddings|WordWeights|CLIPModel|Router|Asym|LogitScore|"
    r"MLMTransformer|SpladePooling|SparseAutoEncoder|SparseStaticEmbedding|MultiVectorMask)"
)
_TOKENIZER = re.compile(r"\w+|sentence_transformers(\.[a-z][a-z0-9_]*){1,5}\.(WhitespaceTokenizer|PhraseTokenizer)")
_ACTIVATION = re.compile(
    r"\w+|torch\.nn(\.modules(\.(activation|linear))?)?\.(Identity|Sigmoid|Tanh|ReLU|ReLU6|LeakyReLU|GELU|SiLU|ELU|SELU|"
    r"CELU|Mish|Softplus|Softsign|LogSigmoid|Hardtanh|Hardsigmoid|Hardswish)"
)
_NAME = re.compile(r"[\w|]+")  # without a slash, as that of an implementation on the hub has
_METHOD = re.compile(r"forward|get_(text|image|audio|video|vision|multimodal)_features")
_RULES: Mapping[str, re.Pattern[str]] = {
    "activation_fn": _ACTIVATION,
    "activation_function": _ACTIVATION,
    "sbert_ce_default_activation_function": _ACTIVATION,
    "tokenizer_class": _TOKENIZER,
    "attn_implementation": _NAME,
    "_attn_implementation": _NAME,
    "experts_implementation": _NAME,
    "_experts_implementation": _NAME,
    "method": _METHOD,
}
_ARGUMENTS = frozenset({
    "model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs",
})  # fmt: skip
_ACCEPTED = frozenset({
    "add_pooling_layer", "attn_implementation", "classifier_dropout", "do_lower_case", "dtype", "max_length",
    "model_max_length", "num_labels", "padding_side", "torch_dtype", "truncation_side", "use_fast",
})  # fmt: skip  # arguments that only set numbers and names


def check_folder(path: str | Path) -> None:
    """Check that a model folder names no code, no other model, and no callable outside a short list.

    Call it before sentence-transformers sees the folder.

    Args:
        path: The folder of an embedder or a cross-encoder.

    Raises:
        InvalidInputError: If a configuration file cannot be read, or names anything that is not accepted.
    """
    folder = Path(path)
    for each in _folders(folder, folder, 0):
        if (each / "adapter_config.json").exists():
            _refuse(each / "adapter_config.json", "names a base model, which would be loaded too", "merge it")
        for file in sorted(each.glob("*config*.json")):
            _check_values(file, _read(file), 0)
    _check_prompts(folder / _PROMPTS)


def checked_source(source: str, *, organization: str) -> tuple[str, str | None]:
    """Check a folder, or the configuration files of a model on the hub.

    Args:
        source: A folder or a hub id.
        organization: The owner of models on the hub whose id names none.

    Returns:
        The folder, or the complete hub id and the commit that was checked; load that very commit.

    Raises:
        InvalidInputError: If `check_folder` rejects it, or if the model does not exist.
    """
    if Path(source).is_dir():
        check_folder(source)
        return source, None
    from huggingface_hub import snapshot_download

    problem: Exception | None = None
    for name in (source,) if "/" in source else (f"{organization}/{source}", source):
        try:
            folder = Path(snapshot_download(name, allow_patterns=["*.json", "**/*.json"]))
        except (OSError, ValueError) as error:
            problem = problem or error
        else:
            check_folder(folder)
            return name, folder.name
    raise InvalidInputError(_unloadable(source, problem))


@contextmanager
def loading(source: str) -> Iterator[None]:
    """Convert the errors with which libraries reject a model to one error for users.

    Args:
        source: The folder or hub id.

    Yields:
        Nothing.

    Raises:
        InvalidInputError: If the model cannot be loaded.
    """
    try:
        yield
    except InvalidInputError:
        raise
    except Exception as error:  # malformed files raise almost any error
        raise InvalidInputError(_unloadable(source, error)) from error


def _unloadable(source: str, error: Exception | None) -> str:
    return (
        f"{source!r} cannot be loaded ({str(error)[:1000]}); give a folder of sentence-transformers, or a hub id that "
        "was downloaded or can be"
    )


def _folders(root: Path, folder: Path, depth: int) -> Iterator[Path]:
    """Yield a folder, and those of its modules and routes, which are all that is read; check the names of both."""
    if depth > _DEEPEST:
        _refuse(folder, "has too many modules inside each other", f"the limit is {_DEEPEST}")
    yield folder
    inner: set[str] = set()
    if folder == root and (folder / _MODULES).exists():
        modules = _read(folder / _MODULES)
        if not isinstance(modules, list) or not all(isinstance(each, dict) for each in modules):
            _refuse(folder / _MODULES, "is not a list of modules", "expected objects with `type` and `path`")
        for each in cast("list[dict[str, object]]", modules):
            _check_text(folder / _MODULES, "type", each.get("type"), _MODULE)
            inner.add(_relative(folder / _MODULES, each.get("path")))
    for name in _ROUTES:
        routes = _read(folder / name) if (folder / name).exists() else {}
        types = routes.get("types") if isinstance(routes, dict) else None
        for path, module in types.items() if isinstance(types, dict) else ():
            _check_text(folder / name, "types", module, _MODULE)
            inner.add(_relative(folder / name, path))
    for path in sorted(inner - {"", "."}):
        yield from _folders(root, folder / path, depth + 1)


def _relative(file: Path, path: object) -> str:
    """Return the path of a module, which must lie inside the folder."""
    if not isinstance(path, str) or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        _refuse(file, f"has the path {_shown(path)}", "expected one inside the folder")
    return path


def _check_values(file: Path, value: object, depth: int) -> None:
    """Check all names in a configuration that libraries import, call or load."""
    if depth > _DEEPEST:
        _refuse(file, "is nested too deeply", f"the limit is {_DEEPEST}")
    if isinstance(value, dict):
        _check_names(file, value)
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_values(file, each, depth + 1)


def _check_names(file: Path, value: dict[str, object]) -> None:
    if value.get("trust_remote_code"):
        _refuse(file, "asks to run code", "`trust_remote_code` must be false")
    if value.get("auto_map") and not _is_native(value):
        how = "use a model that transformers knows"
        _refuse(file, "needs Python code of its authors (`auto_map`)", how)
    for key, inner in value.items():
        if key in _ARGUMENTS:
            _check_arguments(file, key, inner)
        if key in _RULES:
            for one in inner.values() if isinstance(inner, dict) else (inner,):
                _check_text(file, key, one, _RULES[key])


def _is_native(config: Mapping[str, object]) -> bool:
    """Return whether transformers knows a model itself, and therefore ignores the code in its folder."""
    from transformers import CONFIG_MAPPING

    model_type = config.get("model_type")
    return isinstance(model_type, str) and model_type in cast("Any", CONFIG_MAPPING)


def _check_arguments(file: Path, key: str, arguments: object) -> None:
    if arguments is None:
        return
    if not isinstance(arguments, dict) or not _ACCEPTED.issuperset(arguments):
        names = sorted(set(arguments) - _ACCEPTED) if isinstance(arguments, dict) else arguments
        _refuse(file, f"has the {key} {_shown(names)}", f"accepted: {', '.join(sorted(_ACCEPTED))}")
    if not all(isinstance(value, (str, int, float, type(None))) for value in arguments.values()):
        _refuse(file, f"has {key} that are not numbers or names", "expected numbers, text, true, false or null")


def _check_prompts(file: Path) -> None:
    """Check the prompts, which are prepended to texts."""
    found = _read(file) if file.exists() else {}
    if not isinstance(found, dict):
        _refuse(file, "is not an object", "expected `prompts` and `default_prompt_name`")
    prompts, default = found.get("prompts") or {}, found.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(map(_is_text, [*prompts, *prompts.values(), default])):
        _refuse(file, "has prompts that are not text", "expected `prompts` by name and `default_prompt_name`")


def _is_text(value: object) -> bool:
    return value is None or (isinstance(value, str) and not re.search("[\ud800-\udfff]", value))


def _check_text(file: Path, key: str, value: object, accepted: re.Pattern[str]) -> None:
    if value is not None and not (isinstance(value, str) and accepted.fullmatch(value)):
        _refuse(file, f"names the {key} {_shown(value)}", "only names that run no foreign code are accepted")


def _read(file: Path) -> object:
    """Read a configuration file."""
    if not file.is_file() or file.stat().st_size > _LARGEST:
        _refuse(file, "is not a file of usual size", f"the limit is {_LARGEST} bytes")
    try:
        return read_json(file.read_bytes())
    except (OSError, InvalidInputError) as error:
        _refuse(file, f"cannot be read ({error})", "expected JSON in UTF-8", error)


def _shown(value: object) -> str:
    return repr(value)[:200]


def _refuse(file: Path, problem: str, expected: str, cause: Exception | None = None) -> NoReturn:
    raise InvalidInputError(f"{file} {problem}; {expected}. The model was not loaded") from cause
