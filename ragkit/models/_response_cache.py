"""A response cache on disk, which also avoids repeating the calls of interrupted runs."""

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
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from ragkit._files import create_private, make_folder
from ragkit._forks import call_in_child, outlive
from ragkit._text import read_json
from ragkit.errors import IntegrityError, InvalidInputError
from ragkit.protocols import AnyPrompt
from ragkit.records import Chat, Completion, Message, Prompt

_FORMAT = 2
_DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter if SQLite quotes damaged names
_COMPLETION = TypeAdapter(Completion)


class ResponseCache(Protocol):
    """A store of responses by key."""

    def get(self, key: bytes) -> Completion | None:
        """Return a cached response, marked as cached, or None."""
        ...

    def put(self, key: bytes, answer: Completion) -> None:
        """Store a response."""
        ...


class AnswerCache:
    """A response cache in a SQLite file, keyed by model, prompt and settings.

    Any number of threads and processes can share a file. When `put` returns, the response has been handed to the
    operating system: it survives the end of the process, but not necessarily a power failure. Keys are hashes, so the
    file contains responses but no prompts.
    """

    def __init__(self, path: str | Path) -> None:
        """Open or create the file.

        Raises:
            InvalidInputError: If the file cannot be opened.
            IntegrityError: If the file is damaged, or is not a response cache.
        """
        self.path = Path(path)
        self._place = self.path.absolute()
        self._lock = Lock()
        call_in_child(self._forked)
        try:
            make_folder(self.path.parent)
            create_private(self.path)
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
        """Reopen the file, because SQLite does not allow a forked process to use an inherited connection."""
        outlive(self._file)
        self._lock = Lock()  # a thread of the parent process may have held it
        try:
            self._connect()
            self._file.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.OperationalError:  # the file was deleted; without its table, each use raises an error
            self._file = sqlite3.connect(":memory:", check_same_thread=False)

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
        """Return a cached response.

        Args:
            key: Key of the call, from `key_of`.

        Returns:
            The response, marked as cached; None if it is not in the cache.

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
        """Store a response, without the parsed answer, which can be derived from the text."""
        self.put_json(key, {**asdict(answer), "parsed": None})

    def get_json(self, key: bytes) -> object:
        """Return a value that was stored with `put_json`.

        Returns:
            The value; None if it is not in the cache.

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
        """Store a JSON value.

        Raises:
            IntegrityError: If the value cannot be written.
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
    """Compute the cache key of a call from everything that affects its answer.

    Args:
        fingerprint: Fingerprint of the model.
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


def _turns(chat: Chat) -> list[object]:
    """Return everything in a conversation that affects the answer."""
    turns: list[object] = [_turn(message) for message in chat.messages]
    return [*turns, [asdict(tool) for tool in chat.tools], chat.tool_choice] if chat.tools else turns


def _turn(message: Message) -> list[object]:
    calls = [*message.tool_calls, *([message.answers] if message.answers else [])]
    return [message.role, message.content, *([[asdict(call) for call in calls]] if calls else [])]
