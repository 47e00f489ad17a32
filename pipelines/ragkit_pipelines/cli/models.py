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
from ragkit.models.sources import PACKAGED
from ragkit.registry import Component, components
from ragkit_pipelines.cli.select import console_of_width
from ragkit_pipelines.model_folders import find_models


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
    return [_described(component) for component in components("model")]


def _described(component: Component) -> dict[str, object]:
    packaged = PACKAGED.get(component.name)
    needed = [*component.requires, *(["gguf"] if packaged or component.name == "gguf" else [])]
    installed = all(map(is_installed, needed)) and (packaged is None or packaged.parts() is not None)
    needs = packaged.install if packaged else ", ".join(needed).replace("_", "-") or None
    return {"spec": component.spec, "needs": needs, "installed": installed}
