"""The command line that lists models: ``ragkit models``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ragkit.extras import is_installed
from ragkit.models import PROVIDERS
from ragkit.models.sources import PACKAGED
from ragkit_pipelines.cli.select import console_of_width
from ragkit_pipelines.model_folders import find_models

# Packages that LangChain's init_chat_model imports for a provider, where its name does not say it.
_PACKAGES = {
    "azure_openai": "langchain_openai",
    "bedrock": "langchain_aws",
    "google_genai": "langchain_google_genai",
    "google_vertexai": "langchain_google_vertexai",
}


def models(
    folder: Annotated[Path, typer.Argument(help="Where to look for fine-tuned models and adapters.")] = Path(),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """List what can be loaded: kinds of specs, and the models in a folder.

    Example: ragkit models runs
    """
    specs, found = _specs(), find_models(folder)
    if as_json:
        shown = {"specs": specs, "found": [asdict(model) for model in found]}
        typer.echo(json.dumps(shown, ensure_ascii=False, indent=1))
        return
    console = console_of_width()
    kinds = Table("spec", "needs", "installed")
    for spec in specs:
        kinds.add_row(escape(str(spec["spec"])), str(spec["needs"] or ""), "yes" if spec["installed"] else "no")
    console.print(kinds)
    if not found:
        console.print(escape(f"no models in {folder}"))
        return
    table = Table("found", "kind", "base", "about")
    for model in found:
        table.add_row(*map(escape, (model.spec, model.kind, model.base or "", model.about)))
    console.print(table)


def _specs() -> list[dict[str, object]]:
    has_torch = is_installed("torch") and is_installed("transformers")
    reads_gguf = has_torch and is_installed("gguf")
    packaged = [
        {"spec": model.spec, "needs": model.install, "installed": reads_gguf and model.parts() is not None}
        for model in PACKAGED.values()
    ]
    listed: list[dict[str, object]] = [
        *packaged,
        {"spec": "tiny", "needs": "torch, transformers", "installed": has_torch},
        {"spec": "gguf:<file>", "needs": "torch, transformers, gguf", "installed": reads_gguf},
        {"spec": "hf:<hub id or folder>", "needs": "torch, transformers", "installed": has_torch},
        {"spec": "replay:<file>", "needs": None, "installed": True},
    ]
    for provider in PROVIDERS:
        package = _PACKAGES.get(provider, f"langchain_{provider}")
        there = is_installed("langchain") and is_installed(package)
        listed.append({"spec": f"{provider}:<model>", "needs": package.replace("_", "-"), "installed": there})
    return listed
