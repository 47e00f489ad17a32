"""Filters as LangChain's stores take them: ragkit's own, FAISS's dialect of it, and functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from langchain_core.documents import Document

from ragkit.errors import InvalidInputError

Where = Mapping[str, object]
Filter = Where | Callable[[Document], bool]


def read_where(asked: object) -> Where:
    """Read a filter that is not a function.

    Args:
        asked: A filter as `ragkit.where` reads it, in which ``$neq`` may stand for ``$ne``, and a list for ``$in``.

    Returns:
        The filter as `ragkit.where` reads it; what it asks for is checked where it is used.

    Raises:
        InvalidInputError: If it is not a mapping.
    """
    if not isinstance(asked, Mapping):
        raise InvalidInputError(
            f'`filter` must be a mapping such as {{"lang": "en"}} or a function of a Document, got {asked!r}'
        )
    return _translated(asked)


def _translated(asked: Mapping[str, object]) -> dict[str, object]:
    return {name: _entry(name, value) for name, value in asked.items()}


def _entry(name: str, value: object) -> object:
    if name in {"$and", "$or"} and isinstance(value, list | tuple):
        return [_translated(each) if isinstance(each, Mapping) else each for each in value]
    if name == "$not" and isinstance(value, Mapping):
        return _translated(value)
    if isinstance(value, Mapping):
        return {("$ne" if operator == "$neq" else operator): operand for operator, operand in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and not str(name).startswith("$"):
        return {"$in": list(value)}
    return value
