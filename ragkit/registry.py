"""Components by name: one table for each kind, from which specs are resolved, suggested and listed.

A component registers itself where it is defined:

    @register("answer reader", "json:<field>")
    class JsonField(AnswerReader): ...

A package outside ragkit does the same in a module that it names in the entry-point group ``ragkit.plugins``. These
modules are imported when a name is not found, or when the names of a kind are listed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from threading import RLock
from typing import Any, Literal, TypeVar, get_args

from ragkit.errors import InvalidInputError, RagkitWarning, UnknownSpecError

__all__ = ["find", "register", "specs"]

Kind = Literal["model", "embedder", "selector", "stage", "chunker", "retriever", "metric", "strategy", "answer reader"]

PLUGINS = "ragkit.plugins"
_Target = TypeVar("_Target")
_TABLES: dict[str, dict[str, tuple[str, object]]] = {kind: {} for kind in get_args(Kind)}
_LOADED: set[str] = set()
_LOCK = RLock()  # a plugin registers its components while the plugins are being loaded


def register(kind: Kind, spec: str) -> Callable[[_Target], _Target]:
    """Register a component under a name; used as a decorator.

    Args:
        kind: The kind of component.
        spec: The name, followed by a description of the argument if it takes one, such as ``"json:<field>"``.

    Returns:
        A decorator that returns the class or function unchanged. It also takes the text ``"module:attribute"``, for a
        component whose module is imported only when it is used.

    Raises:
        InvalidInputError: If the kind does not exist, or if the name is taken.
    """
    table, name = _table(kind), spec.partition(":")[0]

    def add(target: _Target) -> _Target:
        with _LOCK:
            if name in table and table[name][1] is not target:
                raise InvalidInputError(
                    f"the {kind} {name!r} is already registered as {table[name][1]!r}; register {target!r} under "
                    "another name"
                )
            table[name] = (spec, target)
        return target

    return add


def find(kind: Kind, name: str) -> Any:
    """Return the component registered under a name.

    Args:
        kind: The kind of component.
        name: The part of a spec before the first colon.

    Returns:
        The registered class or function.

    Raises:
        UnknownSpecError: If no component of this kind has the name; the error suggests similar names.
    """
    table = _table(kind)
    if name not in table:
        _load_plugins()
    if name not in table:
        raise UnknownSpecError(kind, name, specs(kind))
    target = table[name][1]
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def specs(kind: Kind) -> list[str]:
    """List what is registered, plugins included.

    Args:
        kind: The kind of component.

    Returns:
        The specs in alphabetical order, such as ``"json:<field>"``.
    """
    _load_plugins()
    return sorted(spec for spec, _ in _table(kind).values())


def _table(kind: str) -> dict[str, tuple[str, object]]:
    if kind not in _TABLES:
        raise InvalidInputError(f"`kind` must be one of {', '.join(map(repr, _TABLES))}, got {kind!r}")
    return _TABLES[kind]


def _load_plugins() -> None:
    with _LOCK:
        for point in entry_points(group=PLUGINS):
            if point.value in _LOADED:
                continue
            _LOADED.add(point.value)
            try:
                point.load()
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and the others are still needed
                warnings.warn(
                    f"the plugin {point.name!r} ({point.value}) was skipped because it cannot be imported: "
                    f"{type(error).__name__}: {error}",
                    RagkitWarning,
                    stacklevel=3,
                )
