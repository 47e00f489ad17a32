"""The command ``ragkit models``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ragkit._extras import is_installed
from ragkit._packaged import PACKAGED
from ragkit.registry import Component, components
from ragkit_pipelines.cli.common import Json, print_json, print_table
from ragkit_pipelines.model_folders import find_models


def models(
    folder: Annotated[Path, typer.Argument(help="Folder to search for fine-tuned models and adapters.")] = Path(),
    *,
    as_json: Json = False,
) -> None:
    """List the specs of models that can be loaded, and the models in a folder.

    Example: ragkit models runs
    """
    specs, found = [_described(component) for component in components("model")], find_models(folder)
    if as_json:
        print_json({"specs": specs, "found": [asdict(model) for model in found]})
        return
    rows = [(str(spec["spec"]), str(spec["needs"] or ""), "yes" if spec["installed"] else "no") for spec in specs]
    print_table(("spec", "needs", "installed"), rows)
    if not found:
        typer.echo(f"no models in {folder}")
        return
    found_rows = ((model.spec, model.kind, model.base or "", model.about) for model in found)
    print_table(("found", "kind", "base", "details"), found_rows)


def _described(component: Component) -> dict[str, object]:
    packaged = PACKAGED.get(component.name)
    needed = [*component.requires, *(["gguf"] if packaged or component.name == "gguf" else [])]
    installed = all(map(is_installed, needed)) and (packaged is None or packaged.parts() is not None)
    needs = packaged.install if packaged else ", ".join(needed).replace("_", "-") or None
    return {"spec": component.spec, "needs": needs, "installed": installed}
