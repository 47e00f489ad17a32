"""The store of an index: commits for readers, and the right of one writer to make the next commit."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock, RLock
from typing import cast

from ragkit._extras import require
from ragkit._forks import call_in_child
from ragkit.errors import IndexLockedError, IntegrityError, InvalidInputError
from ragkit.index._connections import DAMAGE
from ragkit.index._database import Database
from ragkit.index._gpu import Gpus, GpuSegment
from ragkit.index._lock import WriterLock
from ragkit.index._segment import SegmentFile
from ragkit.index._snapshot import Facts, State, files, load_state, sealed

_TAIL = 50_000  # new rows that are searched on the CPU before they are copied to a GPU
_ATTEMPTS = 3  # attempts to load a commit whose files another process does not remove meanwhile


class Store:
    """The open folder of an index: its database, its last commit, its GPUs if there are any, and its writer lock.

    Readers use `reading`. Writers use `changing`, and make their changes inside `committing`. Commits of a ``durable``
    store wait until the data are on disk.
    """

    def __init__(
        self, folder: Path, *, read_only: bool, durable: bool, cards: Sequence[int], facts: Facts | None = None
    ) -> None:
        """Open a folder at its last commit, or create an index with some facts, on the GPUs with some numbers.

        The folder is an absolute path, as the working directory may change while the store is open.

        Raises:
            IndexLockedError: If another writer has opened it.
            IntegrityError: If it cannot be read.
        """
        require("faiss")
        self.folder, self.read_only, self.durable = folder, read_only, durable
        self._parent: int | None = None  # the process that this one was forked from; only it may write
        self._lock = None if read_only else WriterLock(folder / "writer.lock")
        self.database = Database(folder, read_only=read_only, durable=durable)
        self.gpus: Gpus | None = None
        self._writing = RLock()
        self._publishing = Lock()  # held while a commit is made and the state is updated
        self._state: State | None = None
        self._closed = False
        call_in_child(self._forked)
        try:
            self.gpus = Gpus(cards) if cards else None
            if facts is not None:
                self.database.create(sealed(facts))
            self.refresh()
            if not read_only:
                for file in files(folder, self.state.facts):
                    file.cut(self.state.facts["rows"])
        except BaseException:
            self.close()
            raise

    @property
    def state(self) -> State:
        """The last commit seen."""
        return self._state  # type: ignore[return-value]  # the constructor has loaded one

    def close(self) -> None:
        """Close the files and release the lock. Safe to call twice."""
        with self._writing:  # wait for a commit in progress
            if not self._closed:
                self._closed = True
                self.database.close()
                if self.gpus is not None:
                    self.gpus.close()
                if self._lock:
                    self._lock.release()

    def check_open(self) -> None:
        """Raise an error if the store is closed."""
        if self._closed:
            raise InvalidInputError(f"{self.folder} is closed; open it again")

    def check_writable(self) -> None:
        """Raise an error if the store is read-only."""
        self.check_open()
        if self._parent is not None:
            raise IndexLockedError(
                f"{self.folder} was opened for writing by process {self._parent}, from which this process "
                f"({os.getpid()}) was forked; write in that process, or close the index there and open it here"
            )
        if self.read_only:
            raise InvalidInputError(f"{self.folder} is open for reading only; open it without read_only")

    # -- reading -------------------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[State]:
        """Yield the last commit, inside a snapshot of the database that belongs to it."""
        self.check_open()
        database = self.database
        with database.in_use:
            own = not database.connection.in_transaction  # this thread is not inside a snapshot or a commit
            try:
                with self._publishing:  # prevents a commit between the two
                    state = self._begun(own=own)
                yield state
            except DAMAGE as error:
                raise database.unreadable(error) from error
            finally:
                if own:
                    database.end()

    def refresh(self) -> None:
        """Load commits of other processes."""
        with self.reading():
            pass

    def is_last(self, state: State) -> bool:
        """Return whether this is still the last commit of this object; waits for a commit in progress."""
        with self._publishing:
            return self._state is state

    def _begun(self, *, own: bool) -> State:
        """Begin a snapshot of the database, and load the state of its commit."""
        attempts = _ATTEMPTS if own else 1
        while True:
            if own:
                self.database.begin()
            try:
                if self._state is None or self._state.facts["version"] != self.database.version():
                    self._state = self._loaded()
            except (IntegrityError, FileNotFoundError):
                # If another process has compacted the index, the files of this snapshot are gone, not damaged.
                attempts -= 1
                if not attempts:
                    raise
                self.database.end()
            else:
                return self._state

    # -- writing -------------------------------------------------------------------------------------------------------

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Acquire the right to write, and load the last commit, which an interrupted call may not have loaded."""
        self.check_writable()
        with self._writing:
            self.refresh()
            yield

    @contextmanager
    def committing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection to make one commit, inside `changing`; readers see all of it or nothing."""
        with ExitStack() as published:
            with self.database.transaction() as connection:
                yield connection
                published.enter_context(self._publishing)  # held from the commit until the state is updated
            self._state = self._loaded()

    def set_facts(self, **changes: object) -> None:
        """Write the facts of the next version, inside `committing`."""
        facts = self.state.facts
        self.database.set_facts(sealed(cast("Facts", {**facts, **changes, "version": facts["version"] + 1})))

    def _forked(self) -> None:
        """Become a reader after a fork: the lock and the database connections belong to the parent process."""
        if self._lock is not None:
            self._lock.leave()
            self._lock, self._parent, self.read_only = None, os.getppid(), True
        self._writing, self._publishing = RLock(), Lock()  # a thread of the parent process may hold the old ones
        self.database.forget_connections(read_only=self.read_only)
        self.gpus = None  # a forked process cannot use them
        if faiss := sys.modules.get("faiss"):
            faiss.omp_set_num_threads(1)  # otherwise it waits forever for threads that a fork does not inherit
        state = self._state
        if state is not None and not (isinstance(state.built, SegmentFile) and state.built.is_read):
            self._state = replace(state, built=self._segment_file(state))  # a thread may have been reading the old one

    # -- the state and its segment -------------------------------------------------------------------------------------

    def _loaded(self) -> State:
        """Load the last commit, with the segment of the previous state if it is still valid."""
        last = self._state
        state = load_state(self.folder, self.database, last)
        if self.gpus is not None:
            return replace(state, built=self._on_cards(self.gpus, state))
        if last is not None and last.facts["segment"] == state.facts["segment"]:
            return replace(state, built=last.built)
        return replace(state, built=self._segment_file(state))

    def _segment_file(self, state: State) -> SegmentFile | None:
        told = state.facts["segment"]
        path = self.folder / f"segment-{state.facts['generation']}.faiss"
        return told and SegmentFile(path, told, state.facts["dim"], euclidean=state.facts["metric"] == "l2")

    def _on_cards(self, gpus: Gpus, state: State) -> GpuSegment | None:
        last, facts = self._state, state.facts
        old = last.built if last and last.facts["generation"] == facts["generation"] else None
        if isinstance(old, GpuSegment) and facts["rows"] - old.rows <= max(_TAIL, old.rows // 4):
            return old
        if not state.live:
            return None
        return gpus.segment(state.vectors.all(), euclidean=facts["metric"] == "l2", factory=facts["factory"])
