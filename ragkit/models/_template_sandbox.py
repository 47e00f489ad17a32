"""Rendering of chat templates from foreign model folders, with limits on the work that a template can do.

A template is a program: it cannot reach Python, because Jinja's sandbox does not let it, but it could loop or grow
strings without end. Every loop iteration, call and produced value therefore costs a part of a budget that is
proportional to the conversation. The budget does not depend on a clock, so a conversation is always accepted or always
rejected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import cache, wraps
from types import GeneratorType
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace
from jinja2.visitor import NodeTransformer
from typing_extensions import override

MAX_SOURCE = 2**20  # characters of a template
_BASE, _PER_CHARACTER = 10_000_000, 64  # of the budget
_STEP = 100  # cost of an iteration or a call
_MAX_NUMBER = 100_000  # as an argument, such as a width
_WIDE_FORMAT = re.compile(r"[0-9]{6,}|\*")  # a field of a format whose width is large or an argument


class _Work:
    """The work that one rendering may still do."""

    def __init__(self, budget: int, largest: int = 0) -> None:
        self.left, self.largest = budget, largest

    def spend(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise TemplateError("it loops too often or produces too much text")

    def step(self, cost: int = 0) -> None:
        # An iteration can search or copy the largest value.
        self.spend(_STEP + cost + self.largest // 16)

    def produce(self, value: Any, *, deep: bool = False) -> Any:
        size = _deep_size(value, self.left) if deep else _size(value)
        self.largest = max(self.largest, size)
        self.spend(size)
        return value


_WORK: ContextVar[_Work] = ContextVar("work of a chat template")


def render(
    source: str,
    conversation: list[dict[str, Any]],
    *,
    variables: Mapping[str, object],
    tools: list[dict[str, Any]] | None = None,
) -> str:
    """Render a conversation like `apply_chat_template` of transformers.

    Args:
        source: The template.
        conversation: The turns, each with a role and a content.
        variables: Other variables of the template, such as its special tokens.
        tools: Tools in OpenAI's format; None if there are none.

    Returns:
        The text.

    Raises:
        TemplateError: If the template is invalid, rejects the conversation, fails or exceeds the budget.
        MemoryError: If there is too little memory for the budget.
    """
    if len(source) > MAX_SOURCE:
        raise TemplateError(f"it has {len(source):,} characters, the limit is {MAX_SOURCE:,}")
    lengths = [len(turn["content"]) for turn in conversation]
    lengths += [
        len(json.dumps(given)) for given in (tools, *(turn.get("tool_calls") for turn in conversation)) if given
    ]
    token = _WORK.set(_Work(_BASE + _PER_CHARACTER * sum(lengths), max(lengths, default=0)))
    try:
        return _compiled(source).render(messages=conversation, tools=tools, documents=None, **variables)
    except (TemplateError, MemoryError):
        raise
    except Exception as error:  # a template can raise errors of any type
        raise TemplateError(f"it failed with {type(error).__name__}: {error}") from error
    finally:
        _WORK.reset(token)


@cache
def _compiled(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)


class _Charged(NodeTransformer):
    """Makes iterations, literals and ``~`` cost a part of the budget, by filters around them."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - Jinja's interface
        self.generic_visit(node)
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        node.iter = nodes.Filter(node.iter, "_iterated", [nodes.Const(text)], [], None, None)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - Jinja's interface
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), "join", [], [], None, None)

    def visit_List(self, node: nodes.Expr) -> nodes.Expr:  # noqa: N802 - Jinja's interface
        self.generic_visit(node)
        if getattr(node, "ctx", "load") != "load":  # the targets of an assignment
            return node
        return nodes.Filter(node, "_created", [], [], None, None)

    visit_Tuple = visit_Dict = visit_List  # noqa: N815

    def visit_Name(self, node: nodes.Name) -> nodes.Name:  # noqa: N802 - Jinja's interface
        if node.name in {"varargs", "kwargs"}:  # containers that would be created without a literal
            raise TemplateError(f"it uses `{node.name}`, which is not supported")
        return node


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, as transformers configures it, which charges calls, filters, operators and output."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    @override
    def _generate(self, source: nodes.Template, *arguments: Any, **options: Any) -> str:
        return super()._generate(_Charged().visit(source), *arguments, **options)

    @override
    def call(self, context: Context, function: Any, *arguments: Any, **named: Any) -> Any:
        work = _WORK.get()
        work.step()
        owner = getattr(getattr(function, "__wrapped__", function), "__self__", None)
        if isinstance(owner, str | bytes | int | float | list | tuple | dict):
            arguments = _concrete(arguments)
            _check(function.__name__, (owner, *arguments), named)
        return work.produce(super().call(context, function, *arguments, **named), deep=function is _dict)

    @override
    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        work, numbers = _WORK.get(), isinstance(left, int | float) and isinstance(right, int | float)
        if numbers and max(_size(left), _size(right)) > 8:
            raise TemplateError("it computes with very large numbers")
        if operator == "**" and not (numbers and -64 <= right <= 64):
            raise TemplateError("it computes a large power")
        if operator == "*" and not numbers:
            repeats = next((each for each in (left, right) if isinstance(each, int)), 0)
            work.spend(max(_size(left), _size(right)) * max(0, repeats))
        if operator == "%" and isinstance(left, str | bytes):
            _check("format", (left, right), {})
        return work.produce(super().call_binop(context, operator, left, right), deep=True)


def _concrete(arguments: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(list(_iterated(each, 0)) if isinstance(each, GeneratorType | range) else each for each in arguments)


def _check(name: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Reject a filter or a method of a built-in type that could produce much more than it is given."""
    given = [*arguments, *named.values()]
    if any(isinstance(each, int) and abs(each) > _MAX_NUMBER for each in given):
        raise TemplateError(f"`{name}` is called with a number above {_MAX_NUMBER:,}")
    if name == "translate" or (name in {"format", "format_map"} and _WIDE_FORMAT.search(str(given[0]))):
        raise TemplateError(f"`{name}` can produce too much text")
    sizes = sorted(_size(each) for each in given if not isinstance(each, int))
    if name == "replace" and len(given) >= 3 and all(isinstance(each, str) for each in given[:3]):
        _WORK.get().spend(given[0].count(given[1]) * len(given[2]))
    elif len(sizes) > 1 and sizes[-2] > _STEP:  # every line, word or item may be joined with the other text
        _WORK.get().spend(sizes[-1] * sizes[-2])
    if name in {"indent", "expandtabs"}:
        _WORK.get().spend(sizes[-1] * max((each for each in given if isinstance(each, int)), default=8))


def _charged(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)  # also copies whether it takes the context
    def charged(*arguments: Any, **named: Any) -> Any:
        start = 1 if hasattr(function, "jinja_pass_arg") else 0
        work = _WORK.get()
        work.step()
        arguments = (*arguments[:start], *_concrete(arguments[start:]))
        _check(name, arguments[start:], named)
        (result,) = _concrete([function(*arguments, **named)])
        return work.produce(result, deep=name in {"batch", "slice"})

    return charged


def _size(value: Any) -> int:
    """Return the size of a value itself in characters or bytes."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, int):
        return value.bit_length() // 8
    return 8 * len(value) if isinstance(value, list | tuple | dict | set) else 0


def _deep_size(value: Any, most: int) -> int:
    """Return the size of a value with everything in it, as far as it is not above ``most``."""
    total, pending = 0, [value]
    while pending and total <= most:
        each = pending.pop()
        total += _size(each)
        if isinstance(each, dict):
            pending += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set):
            pending += each
    return total


def _iterated(items: Iterable[Any], text: int) -> Iterator[Any]:
    work = _WORK.get()
    for item in items:
        work.step(text)
        yield item


def _created(value: Any) -> Any:
    return _WORK.get().produce(value, deep=True)


def _written(value: Any) -> str:
    text = str(value)
    _WORK.get().spend(len(text))
    return text


class _Generation(Extension):
    """The tag with which templates mark the text of assistants for training."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's interface

    @override
    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


def _raise(message: object) -> None:
    raise TemplateError(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - arguments of the filter in transformers
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return "".join(map(_written, encoder.iterencode(value)))


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _dict(*arguments: Any, **named: Any) -> dict[Any, Any]:
    return dict(*arguments, **named)


class _Namespace(Namespace):
    """A namespace whose text does not contain its values, which can be namespaces again."""

    def __init__(*arguments: Any, **named: Any) -> None:  # the signature of Jinja's class
        attributes = dict(*arguments[1:], **named)
        for name in attributes:
            _check_attribute(name)
        Namespace.__init__(arguments[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_attribute(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


def _check_attribute(name: object) -> None:
    if str(name).startswith("_"):
        raise TemplateError(f"a namespace cannot have the attribute {name!r}")


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], finalize=_written
    )
    environment.filters["tojson"] = _to_json
    environment.filters = {name: _charged(name, function) for name, function in environment.filters.items()}
    environment.filters |= {"_iterated": _iterated, "_created": _created}
    environment.globals = {
        "range": environment.globals["range"], "cycler": Cycler, "joiner": Joiner, "dict": _dict,
        "namespace": _Namespace, "raise_exception": _raise, "strftime_now": _strftime_now,
    }  # fmt: skip
    return environment


_ENVIRONMENT = _environment()
