"""Generate the page that lists the registered components of each kind."""

from __future__ import annotations

from ragkit.registry import KINDS, Component, components

_INTRODUCTION = """# Components

Specs are made of these names, followed by arguments; optional arguments are in brackets. `ragkit components` prints the
same tables with the components of installed plugins. [Contributing](contributing.md) shows how to add a component of
each kind."""


def page() -> str:
    """Return the Markdown of the page."""
    sections = [f"## {kind.capitalize()}s\n\n{_table(components(kind))}" for kind in KINDS]
    return "\n\n".join([_INTRODUCTION, *sections])


def _table(listed: list[Component]) -> str:
    rows = [f"| `{component.spec}` | `{component.origin}` |" for component in listed]
    return "\n".join(["| Spec | Defined in |", "|-|-|", *rows])
