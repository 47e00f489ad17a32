"""Batches, their results, and the encoding of both as bytes.

Values are sent between processes and stored on disk as JSON or as a NumPy array, never as a pickle. Engines in the same
process use the same encoding, so every engine gives the same bytes.
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
LARGEST_RESULTS = 2**30  # bytes of a batch
_ARRAY, _JSON = b"A", b"J"


@runtime_checkable
class Work(Protocol):
    """The work of a pool. The object is sent to each worker, so it contains names and settings, not a model."""

    @property
    def fingerprint(self) -> str:
        """Return a text that is equal for two pieces of work only if they give the same results."""
        ...

    def start(self) -> Function:
        """Prepare a worker, for example by loading a model; called once per worker.

        Returns:
            A function from the items of a batch to one result for each: an array of n rows, or n JSON values.
        """
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Items that are processed together.

    Attributes:
        ids: The name of each item, returned with its result; names do not change the result.
        items: JSON values.
    """

    ids: Sequence[str]
    items: Sequence[object]

    def __post_init__(self) -> None:
        """Check that there is one id for each item."""
        if len(self.ids) != len(self.items):
            raise InvalidInputError(f"a batch has {len(self.ids)} ids for {len(self.items)} items; give one for each")


@dataclass(frozen=True, slots=True)
class Done:
    """A completed batch.

    Attributes:
        ids: The ids of the batch.
        results: One for each id: the rows of an array, or JSON values.
    """

    ids: Sequence[str]
    results: Results


@dataclass(frozen=True, slots=True)
class Missing:
    """An abandoned batch.

    Attributes:
        ids: The ids of the batch.
        reason: Why its last attempt failed.
        attempts: Number of attempts.
    """

    ids: Sequence[str]
    reason: str
    attempts: int


def check_same(kind: str, spec: str, found: str, expected: str | None) -> None:
    """Check that a worker loaded the expected model.

    Raises:
        InvalidInputError: If the fingerprints differ.
    """
    if expected not in {None, found}:
        raise InvalidInputError(
            f"{kind} {spec!r} is {found} in this worker, expected {expected}; install the same model everywhere"
        )


def encode_items(batch: Batch) -> bytes:
    """Encode the items of a batch as JSON; equal objects give equal bytes, whatever the order of their members.

    Returns:
        The bytes.

    Raises:
        InvalidInputError: If an item cannot be encoded.
    """
    return _json(batch.items, "the items of a batch must be JSON values", sort_keys=True)


def key_of(fingerprint: str, items: bytes) -> str:
    """Return the name of a shard: a hash of the fingerprint of the work and of the items, in hexadecimal."""
    return hashlib.sha256(fingerprint.encode() + b"\0" + items).hexdigest()


def run_on(function: Function, items: bytes) -> bytes:
    """Process a batch, in a worker.

    Args:
        function: The result of `Work.start`.
        items: The result of `encode_items`.

    Returns:
        The results, to be decoded by `decode_results`.

    Raises:
        InvalidInputError: If there is not one result for each item, or if the results are too large or cannot be
            encoded.
    """
    asked: list[object] = json.loads(items)
    data = _encoded(function(asked), asked)
    if len(data) > LARGEST_RESULTS:
        raise InvalidInputError(
            f"the results of a batch take {len(data)} bytes, more than {LARGEST_RESULTS}; make the batches smaller"
        )
    return data


def _encoded(found: NDArray[np.generic] | Sequence[object], asked: list[object]) -> bytes:
    if len(found) != len(asked):
        raise InvalidInputError(f"the work gave {len(found)} results for {len(asked)} items; give one for each")
    if not isinstance(found, np.ndarray):
        return _JSON + _json(found, "the work must give an array or JSON values")
    if found.dtype.hasobject:
        raise InvalidInputError("the work gave an array of Python objects; give numbers, or a list of JSON values")
    buffer = io.BytesIO(_ARRAY)
    buffer.seek(0, io.SEEK_END)
    np.save(buffer, found, allow_pickle=False)
    return buffer.getvalue()


def _json(values: Sequence[object], rule: str, *, sort_keys: bool = False) -> bytes:
    try:
        return json.dumps(list(values), sort_keys=sort_keys).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{rule}: {error}") from error


def decode_results(data: bytes) -> Results:
    """Decode the results of `run_on` to an array or a list, with one entry for each item.

    Returns:
        The results.

    Raises:
        InvalidInputError: If the bytes were not written by `run_on`.
    """
    try:
        if data[:1] == _ARRAY:
            array: NDArray[np.generic] = np.load(io.BytesIO(data[1:]), allow_pickle=False)
            return array
        values: list[object] = json.loads(data[1:])
    except (ValueError, RecursionError, EOFError) as error:
        raise InvalidInputError(f"a worker gave results that cannot be decoded: {error}") from error
    return values
