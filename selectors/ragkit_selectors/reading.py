"""Examples as users have them, turned into records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ragkit.errors import InvalidInputError
from ragkit.records import Example, Fields

_OWN = ("input", "output", "id", "metadata")


def read_example(example: object, place: int) -> Example:
    """Make an `Example` of what stands in a pool.

    Args:
        example: An example, or a mapping with ``input`` and ``output``; its other entries become metadata.
        place: Its position, for messages.

    Returns:
        The example; one that is an `Example` already is returned as it is.

    Raises:
        InvalidInputError: If it is neither, or an entry is not what it should be.
    """
    if not isinstance(example, (Example, Mapping)):
        kind = type(example).__name__
        raise InvalidInputError(
            f"examples[{place}] must be an Example or a mapping with 'input' and 'output', got {kind}"
        )
    made = example if isinstance(example, Example) else _from_mapping(example, place)
    found: dict[str, object] = {"output": made.output, "id": "" if made.id is None else made.id}
    for name, value in found.items():  # the types say so already, but data from a file has none
        if not isinstance(value, str):
            raise InvalidInputError(f"examples[{place}]: `{name}` must be text, got {type(value).__name__}")
    return made


def _from_mapping(entries: Mapping[str, object], place: int) -> Example:
    for name in ("input", "output"):
        if name not in entries:
            raise InvalidInputError(f"examples[{place}] has no {name!r}; its entries: {list(entries)}")
    given = entries.get("metadata") or {}
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"examples[{place}]: `metadata` must be a mapping, got {type(given).__name__}")
    metadata = {name: value for name, value in entries.items() if name not in _OWN} | dict(given)
    return Example(
        cast("str | Fields", entries["input"]),  # checked when its text is taken
        cast("str", entries["output"]),
        id=cast("str | None", entries.get("id")),
        metadata=metadata or None,
    )
