"""Handling of open files and connections in forked processes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from types import MethodType
from typing import Any
from weakref import WeakMethod

_METHODS: list[WeakMethod[Callable[[], None]]] = []


def call_in_child(method: Callable[[], None]) -> None:
    """Call a bound method in every process that is forked from this one, as long as its object exists."""
    _METHODS[:] = [each for each in _METHODS if each() is not None]
    _METHODS.append(WeakMethod(method))


def outlive(connection: Any) -> None:
    """Keep an inherited SQLite connection open until the process ends.

    SQLite must not close it: the child would release locks and remove files that the parent process still needs.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _in_child() -> None:
    errors = []
    for each in _METHODS:
        method = each()
        try:
            if isinstance(method, MethodType):
                method()
        except Exception as error:  # noqa: BLE001 - the other objects must learn of the fork nevertheless
            errors.append(error)
    if errors:
        raise errors[0]  # Python reports it on standard error


os.register_at_fork(after_in_child=_in_child)
