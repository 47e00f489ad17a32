"""What goes through a pool: batches in, results out, and how both become bytes.

Values cross processes and lie on disk as JSON or as a NumPy array, never as a pickle, and the result of an engine in
the same process goes the same way: so every engine gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError

Results: TypeAlias = "NDArray[np.generic] | list[object]"
Function: TypeAlias = "Callable[[list[object]], NDArray[np.generic] | Sequence[object]]"
_ARRAY, _JSON = b"A", b"J"


@runtime_checkable
class Work(Protocol):
    """What workers do. The object is sent to each worker, so it holds names and settings, not a model."""

    @property
    def fingerprint(self) -> str:
        """Equal for two pieces of work only where they give the same results."""
        ...

    def start(self) -> Function:
        """Get ready, once a worker: load a model, say.

        Returns:
            A function from the items of a batch to one result for each, an array of n rows or n JSON values.
        """
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Some items that are worked on together.

    Attributes:
        ids: The name of each item, given back with its result; names do not change the result.
        items: JSON values.
    """

    ids: Sequence[str]
    items: Sequence[object]

    def __post_init__(self) -> None:
        """Refuse what has another number of ids than of items."""
        if len(self.ids) != len(self.items):
            raise InvalidInputError(f"a batch has {len(self.ids)} ids for {len(self.items)} items; give one for each")


@dataclass(frozen=True, slots=True)
class Done:
    """A batch that is finished.

    Attributes:
        ids: As they were given.
        results: One for each id: the rows of an array, or JSON values.
    """

    ids: Sequence[str]
    results: Results


@dataclass(frozen=True, slots=True)
class Missing:
    """A batch that was given up.

    Attributes:
        ids: As they were given.
        reason: Why its last attempt failed.
        attempts: How often it was tried.
    """

    ids: Sequence[str]
    reason: str
    attempts: int


def encode_items(batch: Batch) -> bytes:
    """Turn the items of a batch into bytes.

    Args:
        batch: The batch.

    Returns:
        JSON.

    Raises:
        InvalidInputError: If an item is no JSON value.
    """
    try:
        return json.dumps(list(batch.items), sort_keys=True).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"the items of a batch must be JSON values: {error}") from error


def key_of(fingerprint: str, items: bytes) -> str:
    """Name a shard by everything that its content depends on.

    Args:
        fingerprint: The work's.
        items: The batch, as `encode_items` gives it.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256(fingerprint.encode() + b"\0" + items).hexdigest()


def run_on(function: Function, items: bytes) -> bytes:
    """Work on a batch, in a worker.

    Args:
        function: What `Work.start` gave.
        items: The batch, as `encode_items` gives it.

    Returns:
        The results, to be read by `decode_results`.

    Raises:
        InvalidInputError: If they are not one for each item, or cannot be stored.
    """
    asked: list[object] = json.loads(items)
    found = function(asked)
    if len(found) != len(asked):
        raise InvalidInputError(f"the work gave {len(found)} results for {len(asked)} items; give one for each")
    if isinstance(found, np.ndarray):
        if found.dtype.hasobject:
            raise InvalidInputError("the work gave an array of Python objects; give numbers, or a list of JSON values")
        buffer = io.BytesIO()
        np.save(buffer, found, allow_pickle=False)
        return _ARRAY + buffer.getvalue()
    try:
        return _JSON + json.dumps(list(found)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"the work must give an array or JSON values: {error}") from error


def decode_results(data: bytes) -> Results:
    """Read what `run_on` wrote.

    Args:
        data: The bytes.

    Returns:
        An array or a list, one entry for each item.
    """
    if data[:1] == _ARRAY:
        found: NDArray[np.generic] = np.load(io.BytesIO(data[1:]), allow_pickle=False)
        return found
    values: list[object] = json.loads(data[1:])
    return values
