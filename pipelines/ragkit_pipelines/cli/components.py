"""The command ``ragkit components``, and help texts that list the registered components."""

from __future__ import annotations

import inspect
import re
from typing import Annotated, Any, cast

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup
from typing_extensions import override

from ragkit.errors import RagkitError
from ragkit.registry import KINDS, Component, Kind, components, specs
from ragkit_pipelines.cli.common import Json, print_json, print_table
from ragkit_pipelines.cli.configured import Configured

_KIND = re.compile("{(" + "|".join(KINDS) + ")}")


class ListingCommand(Configured, TyperCommand):
    """A command whose help lists the registered components: ``{selector}`` stands for the specs of all selectors."""

    @override
    def format_help(self, ctx: Any, formatter: Any) -> None:
        _fill(self.params)
        super().format_help(ctx, formatter)


class ListingGroup(Configured, TyperGroup):
    """A group of commands with options of its own, whose help lists the registered components."""

    @override
    def format_help(self, ctx: Any, formatter: Any) -> None:
        _fill(self.params)
        super().format_help(ctx, formatter)


def _fill(parameters: Any) -> None:
    """Insert the specs when the help is shown, because listing them imports the plugins."""
    for parameter in parameters:
        parameter.help = _KIND.sub(lambda found: escape(", ".join(specs(found[1]))), parameter.help or "")


def list_components(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(KINDS)}; all if not given.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """List the components that specs can name, including those of installed plugins.

    Example: ragkit components selector
    """
    kinds = KINDS if kind is None else (cast("Kind", kind.replace("-", " ")),)
    found = [component for each in kinds for component in components(each)]
    if as_json:
        print_json([{"kind": each.kind, "spec": each.spec, "defined_in": each.origin} for each in found])
        return
    print_table(("kind", "spec", "defined in"), ((each.kind, each.spec, each.origin) for each in found))


def list_descriptions(kind: Kind, *, as_json: bool) -> None:
    """Print the components of a kind, each with one line that describes it."""
    found = [(each.spec, _description(each)) for each in components(kind)]
    if as_json:
        print_json([{"spec": spec, "description": description} for spec, description in found])
        return
    print_table((kind, "description"), found)


def _description(component: Component) -> str:
    """Return the first paragraph of the component's docstring, or why it cannot be loaded."""
    try:
        text = inspect.getdoc(component.load()) or ""
    except RagkitError as error:
        return str(error)
    return " ".join(text.partition("\n\n")[0].replace("``", "`").split())
