"""Small distributions with plugins, and a registry that is restored after a test."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ragkit import registry


def distribution(folder: Path, modules: Mapping[str, str], entry_points: Collection[str]) -> Path:
    """Write modules into a folder, and install some of them as plugins for processes that have it on their path.

    Returns:
        The folder.
    """
    for name, body in modules.items():
        (folder / f"{name}.py").write_text(body, encoding="utf-8")
    information = folder / "ragkit_example-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: ragkit-example\nVersion: 1.0\n")
    points = "".join(f"{name} = {name}\n" for name in entry_points)
    (information / "entry_points.txt").write_text(f"[{registry.PLUGINS}]\n{points}")
    return folder


@contextmanager
def restored_registry() -> Iterator[None]:
    """Restore the registered components at the end."""
    registry.specs("selector")  # the built-in components and the installed plugins stay registered
    before = {kind: dict(table) for kind, table in registry._TABLES.items()}
    loaded = set(registry._LOADED)
    try:
        yield
    finally:
        for kind, table in before.items():
            registry._TABLES[kind].clear()
            registry._TABLES[kind].update(table)
        registry._LOADED.clear()
        registry._LOADED.update(loaded)
