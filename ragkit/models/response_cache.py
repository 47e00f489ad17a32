"""Answers kept on disk, so that no call is paid for twice, a killed run's calls among them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from threading import Lock

from pydantic import TypeAdapter, ValidationError

from ragkit.errors import IntegrityError, InvalidInputError
from ragkit.forks import call_in_child, outlive
from ragkit.protocols import AnyPrompt
from ragkit.records import Chat, Completion, Prompt
from ragkit.text import read_json

_FORMAT = 2
_DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter where SQLite quotes damaged names
_COMPLETION = TypeAdapter(Completion)


class AnswerCache:
    """A SQLite file of answers by model, prompt and settings; any number of threads and processes can share one.

    An answer is on its way to the disk when `put` returns: it outlives the process, though not a power failure in the
    same moment. Keys are hashes; the file holds answers and no prompts.
    """

    def __init__(self, path: str | Path) -> None:
        """Open or make the file.

        Raises:
            InvalidInputError: If it cannot be opened.
            IntegrityError: If it is damaged, or not such a file.
        """
        self.path = Path(path)
        self._place = self.path.absolute()
        self._lock = Lock()
        call_in_child(self._forked)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connect()
            self._prepare()
        except (OSError, sqlite3.OperationalError) as error:
            raise InvalidInputError(
                f"{self.path} cannot be opened as a cache ({error}); make room, or give a path that can be written"
            ) from error
        except _DAMAGE as error:
            self._file.close()
            raise IntegrityError(
                f"{self.path} is not a cache of answers ({error}); delete it or give another path"
            ) from error

    def _connect(self) -> None:
        self._file = sqlite3.connect(self._place, check_same_thread=False, timeout=60, isolation_level=None)

    def _forked(self) -> None:
        """Open the file again: SQLite does not allow a forked process to use an inherited connection."""
        outlive(self._file)
        self._lock = Lock()  # a thread of the parent process may have held it
        self._connect()
        self._file.execute("PRAGMA synchronous = NORMAL")

    def _prepare(self) -> None:
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = NORMAL")
        found = self._file.execute("PRAGMA user_version").fetchone()[0]
        if found not in {0, _FORMAT}:
            raise sqlite3.DatabaseError(f"format {found}, expected {_FORMAT}")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS answers"
            " (key BLOB PRIMARY KEY, answer TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID"
        )
        self._file.execute(f"PRAGMA user_version = {_FORMAT}")

    def __len__(self) -> int:
        try:
            with self._lock:
                return int(self._file.execute("SELECT count(*) FROM answers").fetchone()[0])
        except _DAMAGE as error:
            raise IntegrityError(f"{self.path} is damaged ({error}); delete it") from error

    def get(self, key: bytes) -> Completion | None:
        """Find an answer.

        Args:
            key: What `key_of` gave.

        Returns:
            The answer, marked as cached; None where there is none.

        Raises:
            IntegrityError: If the file is damaged.
        """
        found = self.get_json(key)
        if not isinstance(found, dict):
            return None
        try:
            return replace(_COMPLETION.validate_python(found), cached=True)
        except ValidationError as error:
            raise IntegrityError(f"{self.path} is damaged ({error}); delete it") from error

    def put(self, key: bytes, answer: Completion) -> None:
        """Keep an answer; the reading of it by a schema is not kept, it can be read again."""
        self.put_json(key, {**asdict(answer), "parsed": None})

    def get_json(self, key: bytes) -> object:
        """Find any value that was kept with `put_json`.

        Returns:
            The value; None where there is none.

        Raises:
            IntegrityError: If the file is damaged.
        """
        try:
            query = "SELECT answer, checksum FROM answers WHERE key = ?"
            with self._lock, closing(self._file.execute(query, (key,))) as rows:
                row = rows.fetchone()
            if row is None:
                return None
            value = read_json(row[0])
        except (*_DAMAGE, InvalidInputError) as error:
            raise IntegrityError(f"{self.path} is damaged ({error}); delete it") from error
        if _checksum(key, row[0]) != row[1]:
            raise IntegrityError(f"{self.path} is damaged (an answer is not the one that was written); delete it")
        return value

    def put_json(self, key: bytes, value: object) -> None:
        """Keep any JSON value.

        Raises:
            IntegrityError: If it cannot be written.
        """
        text = json.dumps(value)
        row = (key, text, _checksum(key, text))
        try:
            with self._lock:
                self._file.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", row)
        except _DAMAGE as error:
            raise IntegrityError(f"{self.path} cannot be written ({error}); make room or delete it") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _checksum(key: bytes, text: object) -> int:
    return zlib.crc32(str(text).encode("utf-8", "surrogatepass"), zlib.crc32(key))


def key_of(fingerprint: str, prompt: AnyPrompt, options: Mapping[str, object]) -> bytes:
    """Name a call by everything that its answer depends on.

    Args:
        fingerprint: The model's.
        prompt: The prompt.
        options: The other arguments.

    Returns:
        A hash.
    """
    if isinstance(prompt, Chat):
        asked: object = _turns(prompt)
    elif isinstance(prompt, Prompt) and (prompt.chat is not None or prompt.form != "auto"):
        asked = [prompt.text, prompt.form, None if prompt.chat is None else _turns(prompt.chat)]
    else:
        asked = prompt if isinstance(prompt, str) else prompt.text
    return hashlib.sha256(json.dumps([fingerprint, asked, options]).encode()).digest()


def _turns(chat: Chat) -> list[list[str]]:
    return [[message.role, message.content] for message in chat.messages]
