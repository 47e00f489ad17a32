"""Components by name: one table for each kind, from which specs are resolved, suggested and listed.

A component registers itself where it is defined:

    @register("answer reader", "json:<field>")
    class JsonField(AnswerReader): ...

or is registered as ``"module:attribute"``, in which case its module is imported only when it is used:

    register("selector", "bm25", "ragkit_selectors.lexical:BM25Selector")

The built-in components are registered in the module `components` of each package. A package outside ragkit registers
its components in a module that it names in the entry-point group ``ragkit.plugins``. These modules are imported when a
name is not found, or when the names of a kind are listed.
"""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from inspect import Parameter, signature
from pkgutil import resolve_name
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, overload

from ragkit._extras import EXTRA_OF, require
from ragkit.errors import InvalidInputError, RagkitError, RagkitWarning, UnknownSpecError, UnsupportedError

__all__ = ["KINDS", "Component", "components", "create", "find", "register", "specs"]

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

Kind = Literal[
    "model", "embedder", "selector", "stage", "chunker", "retriever", "reranker", "metric", "strategy", "answer reader",
    "tracker",
]  # fmt: skip

KINDS: tuple[Kind, ...] = get_args(Kind)
PLUGINS = "ragkit.plugins"
BUILT_IN = ("ragkit._components", "ragkit_selectors.components", "ragkit_pipelines.components")
_FUNCTIONS = {"metric", "reranker"}  # kinds whose components are functions or objects, which need not be created
_PLACEHOLDER = re.compile(r"\[?[:@*+]<")
_Target = TypeVar("_Target")


@dataclass(frozen=True)
class Component:
    """A registered component.

    Attributes:
        kind: The kind of component.
        spec: The name, followed by its arguments, the optional ones in brackets: ``"mmr[:<relevance>]"``.
        target: A class, a function or an object, or the text ``"module:attribute"`` that locates it.
        preset: Arguments of the class or function that are the same for every spec.
        requires: Modules of optional dependencies that must be installed.
    """

    kind: Kind
    spec: str
    target: object
    preset: Mapping[str, object] = field(default_factory=dict)
    requires: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The spec without its arguments."""
        first = _PLACEHOLDER.search(self.spec)
        return self.spec[: first.start()] if first else self.spec

    @property
    def origin(self) -> str:
        """Where the component is defined, as ``"module:attribute"``."""
        if isinstance(self.target, str):
            return self.target
        named = self.target if hasattr(self.target, "__qualname__") else type(self.target)
        return f"{named.__module__}:{named.__qualname__}"

    def load(self) -> Any:
        """Import the class, function or object; a target that cannot be imported is an `UnsupportedError`."""
        require(*(module for module in self.requires if module in EXTRA_OF))
        try:
            return resolve_name(self.target) if isinstance(self.target, str) else self.target
        except RagkitError:  # such as a missing extra
            raise
        except (Exception, SystemExit) as error:
            raise UnsupportedError(
                f"the {self.kind} {self.name!r} ({self.origin}) cannot be imported: {type(error).__name__}: {error}; "
                "fix or remove the package that registers it"
            ) from error

    def parameters(self) -> Mapping[str, Parameter]:
        """Return the parameters of the class or function by name."""
        return signature(self.load()).parameters

    def arguments(self, spec: str) -> list[str]:
        """Return the arguments of a spec as text; the last one may contain colons.

        Raises:
            UnknownSpecError: If arguments are missing or empty, or if there are more than the component takes.
        """
        most, least = self.spec.count(":<"), self.spec.count(":<") - self.spec.count("[:<")
        given = spec[len(self.name) + 1 :]
        parts = given.split(":", max(most - 1, 0)) if len(spec) > len(self.name) else []
        if not least <= len(parts) <= most or not all(parts):
            raise UnknownSpecError(self.kind, spec, specs(self.kind))
        return parts


_TABLES: dict[str, dict[str, Component]] = {kind: {} for kind in KINDS}
_LOADED: set[str] = set()
_LOCK = RLock()  # a plugin registers its components while the plugins are being loaded


@overload
def register(
    kind: Kind, spec: str, *, preset: Mapping[str, object] | None = None, requires: Iterable[str] = ()
) -> Callable[[_Target], _Target]: ...
@overload
def register(
    kind: Kind, spec: str, target: _Target, *, preset: Mapping[str, object] | None = None, requires: Iterable[str] = ()
) -> _Target: ...
def register(
    kind: Kind,
    spec: str,
    target: object = None,
    *,
    preset: Mapping[str, object] | None = None,
    requires: Iterable[str] = (),
) -> object:
    """Register a component under a name.

    Args:
        kind: The kind of component.
        spec: The name, followed by a placeholder for each argument, such as ``"json:<field>"``; optional arguments are
            in brackets, as in ``"recursive[:<characters>][:<overlap>]"``.
        target: The class, function or object, or ``"module:attribute"`` for a component whose module is imported only
            when it is used; None to use the call as a decorator.
        preset: Arguments of the class or function that are the same for every spec, by name.
        requires: Modules of optional dependencies that must be installed, such as ``["torch"]``.

    Returns:
        The target unchanged, or a decorator that returns it.

    Raises:
        InvalidInputError: If the kind does not exist, or if the name is taken.
    """
    if target is None:
        return lambda given: register(kind, spec, given, preset=preset, requires=requires)
    table = _table(kind)
    new = Component(kind, spec, target, dict(preset or {}), tuple(requires))
    with _LOCK:
        old = table.get(new.name)
        if old is not None and old.origin != new.origin:  # rerunning a notebook cell defines the same class again
            raise InvalidInputError(
                f"the {kind} {new.name!r} is already registered as {old.origin!r}; register {new.origin!r} under "
                "another name"
            )
        table[new.name] = new
    return target


def find(kind: Kind, spec: str) -> Component:
    """Return the component with the longest name that a spec begins with; colons separate its arguments.

    Returns:
        The component.

    Raises:
        UnknownSpecError: If no component of this kind has the name; the error suggests similar names.
    """
    found = _named(kind, spec)
    if found is None:
        _load_plugins()
        found = _named(kind, spec)
    if found is None:
        raise UnknownSpecError(kind, spec, specs(kind))
    return found


def is_known(kind: Kind, spec: str) -> bool:
    """Return whether a spec names a component of a kind and has the arguments that it takes."""
    try:
        find(kind, spec).arguments(spec)
    except UnknownSpecError:
        return False
    return True


def create(kind: Kind, spec: str, *leading: object, settings: Mapping[str, object] | None = None) -> Any:
    """Create the component that a spec describes.

    The arguments of the spec go to the parameters of the class or function in their order, after the leading arguments
    and without those that a setting or a preset provides. They are converted to numbers if the parameter is annotated
    with ``int`` or ``float``. A parameter named ``spec`` receives the whole spec instead.

    Args:
        kind: The kind of component.
        spec: The name, with arguments after colons.
        *leading: The first positional arguments.
        settings: Further arguments by name; each is passed only if the class or function has such a parameter.

    Returns:
        The component.

    Raises:
        UnknownSpecError: If no component has this name, or the spec has too few or too many arguments.
        InvalidInputError: If an argument is not a number although it must be.
    """
    component = find(kind, spec)
    texts, target = component.arguments(spec), component.load()
    if kind in _FUNCTIONS and not texts and not isinstance(target, type):
        return target
    parameters = component.parameters()
    offered = {name: value for name, value in {**(settings or {}), "spec": spec}.items() if name in parameters}
    named: dict[str, object] = {**offered, **component.preset}
    if "spec" not in offered:
        free = [each for each in list(parameters.values())[len(leading) :] if each.name not in named]
        named |= {each.name: _converted(spec, text, each) for each, text in zip(free, texts, strict=False)}
    return target(*leading, **named)


def components(kind: Kind) -> list[Component]:
    """List the registered components of a kind, including those of plugins, in alphabetical order of their specs."""
    table = _table(kind)
    _load_plugins()
    return sorted(table.values(), key=lambda component: component.spec)


def specs(kind: Kind) -> list[str]:
    """List the specs of `components`, such as ``"json:<field>"``, in alphabetical order."""
    return [component.spec for component in components(kind)]


def name_of(kind: Kind, target: object) -> str | None:
    """Return the name under which a class, function or object is registered; None if it is not."""
    origin = f"{getattr(target, '__module__', '')}:{getattr(target, '__qualname__', '')}"
    found = (each for each in list(_table(kind).values()) if each.target is target or each.target == origin)
    return next((each.name for each in found), None)


def _named(kind: Kind, spec: str) -> Component | None:
    table, name = _table(kind), spec
    while name not in table and ":" in name:
        name = name.rpartition(":")[0]
    return table.get(name)


def _converted(spec: str, text: str, parameter: Parameter) -> object:
    annotated = set(re.findall(r"\w+", str(parameter.annotation)))
    if "str" in annotated or not annotated & {"int", "float"}:
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    whole = "float" not in annotated
    if not math.isfinite(number) or (whole and not number.is_integer()):
        raise InvalidInputError(
            f"{spec[:80]!r}: `{parameter.name}` must be a {'whole ' * whole}number, got {text[:80]!r}"
        )
    return int(number) if whole else number


def _table(kind: str) -> dict[str, Component]:
    if kind not in _TABLES:
        raise InvalidInputError(f"`kind` must be one of {', '.join(map(repr, _TABLES))}, got {kind!r}")
    with _LOCK:
        for module in BUILT_IN:
            if module not in _LOADED:
                _LOADED.add(module)  # before the import, which registers components and thereby calls this function
                import_module(module)
    return _TABLES[kind]


@lru_cache(maxsize=1)
def _entry_points(_path: tuple[str, ...]) -> EntryPoints:
    """Return the entry points of the plugins; cached, because reading the metadata of distributions takes time."""
    from importlib.metadata import entry_points

    return entry_points(group=PLUGINS)


def _load_plugins() -> None:
    with _LOCK:
        for point in _entry_points(tuple(sys.path)):
            if point.value in _LOADED:
                continue
            _LOADED.add(point.value)
            try:
                point.load()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the other plugins are still needed
                warnings.warn(
                    f"the plugin {point.name!r} ({point.value}) was skipped because it cannot be imported: "
                    f"{type(error).__name__}: {error}",
                    RagkitWarning,
                    stacklevel=3,
                )
