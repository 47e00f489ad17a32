"""What a call did that should have raised an error of ragkit, for attacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ragkit.errors import RagkitError


def refused(call: Callable[[], object], what: str) -> str:
    """Return nothing if a call raises an error of ragkit, otherwise what it did instead."""
    try:
        made = call()
    except RagkitError:
        return ""
    except Exception as error:  # noqa: BLE001 - any other exception is a broken promise
        return f"{what}: {type(error).__name__}: {error}"[:300]
    return f"{what}: accepted as {made!r}"[:300]


def accepted_or_refused(call: Callable[[], object], what: str) -> str:
    """Return nothing if a call returns a value or raises an error of ragkit, otherwise the other exception."""
    found = refused(call, what)
    return "" if found.startswith(f"{what}: accepted") else found


def first(findings: Iterable[str]) -> str:
    """Return the first finding that is not empty."""
    return next((finding for finding in findings if finding), "")
