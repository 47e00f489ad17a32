"""Export of local models, with adapters merged, as model folders that any server can load."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragkit._extras import require
from ragkit._files import atomic_folder
from ragkit.errors import InvalidInputError, RagkitError, UnsupportedError
from ragkit.finetuning._adapter_files import SETTINGS, adapter_folder, base_of, read_settings
from ragkit.finetuning._manifest import MANIFEST, Manifest
from ragkit.models._sources import fingerprint_of, is_named, source_of, weights_of

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # values that vLLM accepts for --max-lora-rank


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported model and the commands with which vLLM serves it.

    Attributes:
        folder: Folder of the merged model.
        base: Hub id or folder of the base model.
        adapter: Folder of the adapter; None if there was no adapter.
        serve_merged: Command that serves the merged model.
        serve_adapter: Command that serves the base model with the adapter; None if there is no adapter, or if vLLM does
            not support it.
    """

    folder: Path
    base: str
    adapter: str | None
    serve_merged: str
    serve_adapter: str | None


def export_merged(model: str, folder: str | Path, *, adapter: str | None = None) -> Exported:
    """Export a local model as a transformers model folder with weights, tokenizer and chat template.

    The adapter is merged in float32, and the weights are stored in the precision of the base model.

    Args:
        model: A spec: ``"smollm2"``, ``"tiny"``, ``"gguf:<file>"``, or ``"hf:"`` followed by a hub id, a model folder,
            an adapter folder, or an output folder of `ragkit.finetune`.
        folder: A new or empty folder.
        adapter: Folder of a PEFT adapter to merge.

    Returns:
        The folder and the commands that serve the model.

    Raises:
        InvalidInputError: If the folder is not empty, or the spec is not a local model.
        IntegrityError: If the adapter or its base model differs from that of training.
        UnsupportedError: If the model cannot be merged, such as a soft prompt.
    """
    require("torch", "transformers", "peft")
    from ragkit._progress import quiet_transformers

    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidInputError(f"{target} is not an empty folder; give another one")
    source, on_top = _parts_of(model, None if adapter is None else adapter_folder(adapter))
    if adapter is not None and on_top is not None:
        from ragkit.finetuning._adapters import check_base

        check_base(on_top, source)
    with atomic_folder(target) as partial, quiet_transformers():
        _write(source, on_top, partial)
    base = weights_of(source).place
    merged = vllm_command(str(target), {})
    beside = None if on_top is None or _rank(on_top) is None else vllm_command(base, {_name(model, on_top): on_top})
    return Exported(target, base, on_top, merged, beside)


def vllm_command(base: str, adapters: Mapping[str, str]) -> str:
    """Return the command with which vLLM serves a base model and folders of LoRA adapters by name."""
    line = ["vllm", "serve", base]
    if adapters:
        most = max(_rank(folder) or 0 for folder in adapters.values())
        rank = next((size for size in _RANKS if size >= most), most)
        line += ["--enable-lora", "--lora-modules", *(f"{name}={folder}" for name, folder in adapters.items())]
        line += ["--max-lora-rank", str(rank)]
    return shlex.join(line)


def _parts_of(spec: str, adapter: str | None) -> tuple[str, str | None]:
    """Return the source of the base model and the adapter folder, after checking a manifest if there is one."""
    if is_named(spec):
        return spec, adapter
    if not spec.startswith("hf:"):
        raise InvalidInputError(f"only a local model can be exported, such as 'smollm2' or 'hf:<folder>'; got {spec!r}")
    source = source_of(spec)
    folder = Path(source)
    if (folder / MANIFEST).is_file():
        manifest = Manifest.read(folder)
        if adapter is not None or manifest.kind != "causal":
            classifier = "is a classifier, which other servers cannot load; use `ragkit serve`"
            wrong = "is fine-tuned already; export it without `adapter`" if adapter else classifier
            raise InvalidInputError(f"{folder} {wrong}")
        if manifest.form == "remote":
            raise InvalidInputError(f"{folder} stands for {manifest.remote}, whose weights are at the vendor")
        manifest.check_weights(folder)
        if manifest.form == "model":
            return str(folder / "model"), None
        manifest.check_base(folder, fingerprint_of(manifest.base))
        return manifest.base, str(folder / "model")
    if (folder / SETTINGS).is_file():
        return base_of(folder), source
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise InvalidInputError(f"{folder} holds no model: expected config.json, {SETTINGS} or {MANIFEST}")
    return source, adapter


def _write(source: str, adapter: str | None, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoTokenizer

    from ragkit.finetuning._soft_prompt import SoftPromptModel
    from ragkit.models._loading import load_causal

    try:
        model = load_causal(source, name=source, adapter=adapter, dtype="float32")
    except RagkitError:
        raise
    except Exception as error:  # transformers, peft and the hub raise errors of any type, some of several lines
        cause = " ".join(str(error)[:1000].split()) or type(error).__name__
        raise InvalidInputError(f"{source} cannot be loaded ({cause}); give a model folder") from error
    if isinstance(model, SoftPromptModel):
        raise UnsupportedError(f"{adapter} is a soft prompt, which no weights can hold; serve it with ragkit")
    module: Any = model.module if adapter is None else model.module.merge_and_unload()
    place = weights_of(source).place
    stored = AutoConfig.from_pretrained(place, trust_remote_code=False).dtype
    module.to(stored or torch.float32).save_pretrained(folder)
    own = adapter is not None and (Path(adapter) / "tokenizer_config.json").is_file()
    AutoTokenizer.from_pretrained(adapter if own else place, trust_remote_code=False).save_pretrained(folder)


def _rank(adapter: str) -> int | None:
    """Return the rank of a LoRA adapter; None for other types, and for DoRA, which vLLM does not support."""
    found = read_settings(adapter)
    rank = found.get("r")
    return rank if isinstance(rank, int) and found.get("peft_type") == "LORA" and not found.get("use_dora") else None


def _name(spec: str, adapter: str) -> str:
    path = Path(adapter)
    return path.parent.name if path.name == "model" and spec.startswith("hf:") else path.name
