"""Filters of LangChain's stores: those of ragkit, the variants of FAISS, and functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from langchain_core.documents import Document

from ragkit.errors import InvalidInputError

Where = Mapping[str, object]
Filter = Where | Callable[[Document], bool]


def read_where(filter: object) -> Where:
    """Translate a filter that is not a function into a filter of `ragkit.where`, which validates it.

    Args:
        filter: A filter of `ragkit.where` that may also contain ``$neq`` for ``$ne``, and a list for ``$in``.

    Returns:
        The filter of `ragkit.where`.

    Raises:
        InvalidInputError: If it is not a mapping.
    """
    if not isinstance(filter, Mapping):
        raise InvalidInputError(
            f'`filter` must be a mapping such as {{"lang": "en"}} or a function of a Document, got {filter!r}'
        )
    return _translated(filter)


def _translated(filter: Mapping[str, object]) -> dict[str, object]:
    return {name: _entry(name, value) for name, value in filter.items()}


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
