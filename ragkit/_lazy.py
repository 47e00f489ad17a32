"""Lazy imports: the names of a package are imported on first use, so importing the package takes milliseconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_names(
    package: str, modules: Mapping[str, str], *, renamed: Mapping[str, str] | None = None
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Create ``__getattr__`` and ``__dir__`` of a package, from the module of the package that defines each name."""

    def load(name: str) -> object:
        if renamed and name in renamed:
            raise ImportError(f"`{package}.{name}` is called `{renamed[name]}` now", name=name)
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return load, names


def names_of(*packages: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Create the functions ``__getattr__`` and ``__dir__`` of a module that exports all public names of some packages.

    Args:
        packages: The packages, each with an ``__all__``; they are imported on first use of a name.

    Returns:
        Both functions, to be assigned in the module.
    """

    def names() -> list[str]:
        return sorted({name for package in packages for name in import_module(package).__all__})

    def load(name: str) -> object:
        if name == "__all__":
            return names()
        for package in () if name.startswith("_") else packages:
            if name in (home := import_module(package)).__all__ or name in getattr(home, "_RENAMED", ()):
                return getattr(home, name)
        raise AttributeError(f"no attribute {name!r}: {' and '.join(packages)} export {names()}")

    return load, names
