"""The command ``ragkit models``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ragkit.extras import is_installed
from ragkit.packaged import PACKAGED
from ragkit.registry import Component, components
from ragkit_pipelines.cli.common import Json, console, print_json
from ragkit_pipelines.model_folders import find_models


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
    return [_described(component) for component in components("model")]


def _described(component: Component) -> dict[str, object]:
    packaged = PACKAGED.get(component.name)
    needed = [*component.requires, *(["gguf"] if packaged or component.name == "gguf" else [])]
    installed = all(map(is_installed, needed)) and (packaged is None or packaged.parts() is not None)
    needs = packaged.install if packaged else ", ".join(needed).replace("_", "-") or None
    return {"spec": component.spec, "needs": needs, "installed": installed}
