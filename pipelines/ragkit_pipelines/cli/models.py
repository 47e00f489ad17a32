"""The command ``ragkit models``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ragkit.extras import is_installed
from ragkit.models import PROVIDERS
from ragkit.models.sources import PACKAGED
from ragkit_pipelines.cli.common import Json, console, print_json
from ragkit_pipelines.model_folders import find_models

# Packages that LangChain's init_chat_model imports for a provider, if their name does not follow from the provider's.
_PACKAGES = {
    "azure_openai": "langchain_openai",
    "bedrock": "langchain_aws",
    "google_genai": "langchain_google_genai",
    "google_vertexai": "langchain_google_vertexai",
}


def models(
    folder: Annotated[Path, typer.Argument(help="Folder to search for fine-tuned models and adapters.")] = Path(),
    *,
    as_json: Json = False,
) -> None:
    """List the specs of models that can be loaded, and the models in a folder.

    Example: ragkit models runs
    """
    specs, found = _specs(), find_models(folder)
    if as_json:
        print_json({"specs": specs, "found": [asdict(model) for model in found]})
        return
    shown = console()
    table = Table("spec", "needs", "installed")
    for spec in specs:
        table.add_row(escape(str(spec["spec"])), str(spec["needs"] or ""), "yes" if spec["installed"] else "no")
    shown.print(table)
    if not found:
        shown.print(escape(f"no models in {folder}"))
        return
    table = Table("found", "kind", "base", "details")
    for model in found:
        table.add_row(*map(escape, (model.spec, model.kind, model.base or "", model.about)))
    shown.print(table)


def _specs() -> list[dict[str, object]]:
    has_torch = is_installed("torch") and is_installed("transformers")
    reads_gguf = has_torch and is_installed("gguf")
    listed: list[tuple[str, str | None, bool]] = [
        *((model.spec, model.install, reads_gguf and model.parts() is not None) for model in PACKAGED.values()),
        ("tiny", "torch, transformers", has_torch),
        ("gguf:<file>", "torch, transformers, gguf", reads_gguf),
        ("hf:<hub id or folder>", "torch, transformers", has_torch),
        ("replay:<file>", None, True),
    ]
    for provider in PROVIDERS:
        package = _PACKAGES.get(provider, f"langchain_{provider}")
        installed = is_installed("langchain") and is_installed(package)
        listed.append((f"{provider}:<model>", package.replace("_", "-"), installed))
    return [{"spec": spec, "needs": needs, "installed": installed} for spec, needs, installed in listed]
