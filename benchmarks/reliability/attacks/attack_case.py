"""One attack: what a hostile file, document or request tries, and the promise that must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Attack:
    """An attack and the promise that it tries to break.

    Attributes:
        name: The attack in a few words, unique within its module.
        promise: What ``docs/security.md`` promises.
        run: Perform the attack inside an empty folder. Return ``""`` if the promise held, otherwise what happened.
        memory_mib: The most memory that the process and its children may use.
        seconds: The longest that the attack may take.
        slow: Whether the attack takes more than a few seconds, so that the tests skip it by default.
    """

    name: str
    promise: str
    run: Callable[[Path], str]
    memory_mib: int = 1024
    seconds: float = 30
    slow: bool = False
