"""A check that invalid input raises the right error."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

from collections.abc import Callable

from ragkit.errors import InvalidInputError


def assert_refused(call: Callable[[], object]) -> None:
    """Fail unless a call raises an `InvalidInputError` with a message."""
    said = None
    try:
        call()
    except InvalidInputError as error:
        said = str(error)
    assert said, "expected an InvalidInputError that says what is wrong"
