"""Dates, times, UUIDs and paths in the metadata of a pickle file, which are built here from what the file contains.

The reader of the file only records the arguments and the state of such objects; their classes are never called with
them before they are checked.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID

_DEEPEST = 100
_FOLD = 128  # added to the month of a datetime and the hour of a time that occur twice


class PickledValue:
    """The recorded arguments of a value; subclasses set its kind.

    Attributes:
        kind: Name of the class.
        arguments: What the class was called with.
    """

    kind = ""
    arguments: tuple[Any, ...] = ()

    def __init__(self, *arguments: Any) -> None:
        """Record the arguments."""
        self.arguments = arguments


_PATHS = ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
KINDS = {
    **{("datetime", name): name for name in ("datetime", "date", "time", "timedelta", "timezone")},
    **{(module, name): name for module in ("pathlib", "pathlib._local") for name in _PATHS},
    ("uuid", "UUID"): "UUID",
}


def restored(value: Any, depth: int = 0) -> Any:
    """Return metadata in which recorded values are objects.

    Raises:
        ValueError: If a recorded value is damaged, or the metadata is nested too deeply.
    """
    if depth > _DEEPEST:
        raise ValueError(f"values are nested more than {_DEEPEST} deep")
    if isinstance(value, PickledValue):
        try:
            return _BUILDERS[value.kind](value)
        except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"a value of type {value.kind} is damaged") from error
    if isinstance(value, dict):
        return {name: restored(each, depth + 1) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [restored(each, depth + 1) for each in value]
    return value


def _datetime(value: PickledValue) -> datetime:
    packed, zone = _bytes(value, 10), _zone(value)
    day = date(packed[0] * 256 + packed[1], packed[2] % _FOLD, packed[3])
    micro = int.from_bytes(packed[7:])
    return datetime.combine(day, time(packed[4], packed[5], packed[6], micro, zone, fold=packed[2] // _FOLD))


def _date(value: PickledValue) -> date:
    packed = _bytes(value, 4)
    return date(packed[0] * 256 + packed[1], packed[2], packed[3])


def _time(value: PickledValue) -> time:
    packed = _bytes(value, 6)
    micro = int.from_bytes(packed[3:])
    return time(packed[0] % _FOLD, packed[1], packed[2], micro, _zone(value), fold=packed[0] // _FOLD)


def _bytes(value: PickledValue, length: int) -> bytes:
    packed = value.arguments[0]
    if not isinstance(packed, bytes) or len(packed) != length:
        raise ValueError
    return packed


def _zone(value: PickledValue) -> tzinfo | None:
    given = value.arguments[1] if len(value.arguments) > 1 else None
    if given is None:
        return None
    if not isinstance(given, PickledValue) or given.kind != "timezone":
        raise ValueError
    return _timezone(given)


def _timezone(value: PickledValue) -> timezone:
    offset = value.arguments[0]
    if not isinstance(offset, PickledValue) or offset.kind != "timedelta":
        raise ValueError
    return timezone(_timedelta(offset))


def _timedelta(value: PickledValue) -> timedelta:
    days, seconds, micro = value.arguments
    if not all(type(each) is int for each in (days, seconds, micro)):
        raise TypeError
    return timedelta(days, seconds, micro)


def _uuid(value: PickledValue) -> UUID:
    number = vars(value)["int"]
    if type(number) is not int:
        raise TypeError
    return UUID(int=number)


def _path(value: PickledValue) -> PurePath:
    if not all(isinstance(each, str) for each in value.arguments):
        raise TypeError
    windows = "Windows" in value.kind
    return (PureWindowsPath if windows else PurePosixPath)(*value.arguments)


_BUILDERS: dict[str, Callable[[PickledValue], object]] = {
    "datetime": _datetime,
    "date": _date,
    "time": _time,
    "timedelta": _timedelta,
    "timezone": _timezone,
    "UUID": _uuid,
    **dict.fromkeys(_PATHS, _path),
}
