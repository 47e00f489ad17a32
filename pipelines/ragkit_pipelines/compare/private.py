"""Keep what belongs to a comparison in its folder: no links out of it, no other readers, and no secrets in it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from ragkit.errors import InvalidInputError
from ragkit.finetuning._manifest import run_hash

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .,:@+()|=-]{0,99}")
_UNUSUAL = re.compile(r"[^A-Za-z0-9_.-]+")
_SHORTEST = 8  # characters; shorter values, such as "1" or "true", also occur in other texts
_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)S?$", re.IGNORECASE)
_SHAPES = (
    re.compile(r"(?<=://)[^/\s@\"]*:[^/\s@\"]+(?=@)"),  # user:password in an address
    re.compile(r"(?i)(?<=[?&;])(?:api[_-]?key|key|token|access_token|secret|password)=[^&\s\"]+"),
    re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|\bhf_[A-Za-z0-9]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}"),
)


def file_name(name: str) -> str:
    """Return a name as a file name: unchanged if it is short and plain, otherwise with a hash."""
    if _PLAIN.fullmatch(name):
        return name
    return f"{_UNUSUAL.sub('-', name)[:60]}-{run_hash(name=name)}"


def refuse_links(folder: Path) -> None:
    """Raise an error if something in a folder is neither a file nor a folder: links could lead out of it."""
    for path in _tree(folder):
        kind = path.lstat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            what = "a symbolic link" if stat.S_ISLNK(kind) else "not a regular file"
            raise InvalidInputError(f"{path} is {what}; the folder of a comparison must contain files and folders only")


def _tree(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent) / name for name in (*folders, *files))


def without_secrets(text: str) -> str:
    """Replace the values of environment variables for secrets, and what looks like a key, by ``[secret]``."""
    for value in _secret_values():
        text = text.replace(value, "[secret]")
    for shape in _SHAPES:
        text = shape.sub("[secret]", text)
    return text


def refuse_secrets(entries: Mapping[str, str]) -> None:
    """Raise an error if an entry contains a secret, because the entries are stored and shown."""
    for name, text in entries.items():
        if without_secrets(text) != text:
            raise InvalidInputError(
                f"`{name}` contains a key or a password, which the folder of the comparison would store; pass keys in "
                "the environment variable of their provider"
            )


def _secret_values() -> list[str]:
    return [value for name, value in os.environ.items() if _NAMES.search(name) and len(value) >= _SHORTEST]
