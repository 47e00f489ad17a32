"""What is committed, for readers, and the right to make the next commit, for one writer."""

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

from ragkit.errors import IndexLockedError, IntegrityError, InvalidInputError
from ragkit.extras import require
from ragkit.forks import call_in_child
from ragkit.index.database import DAMAGE, Database
from ragkit.index.gpu import Gpus, GpuSegment
from ragkit.index.lock import WriterLock
from ragkit.index.segment import SegmentFile
from ragkit.index.snapshot import Facts, State, files, load_state, sealed

_TAIL = 50_000  # new rows that are searched on the CPU before they are put on a card
_ATTEMPTS = 3  # to see a commit whose files another process does not take away


class Store:
    """The folder of an index, open: its database, its last commit, and the lock of its writer.

    Readers ask for `reading`, writers hold `changing` and put what they change into `committing`.

    Attributes:
        folder: The folder.
        read_only: Whether nothing may be written.
        durable: Whether a commit waits for the disk.
        database: The documents.
        gpus: The cards that hold a copy of the vectors; None for the CPU.
    """

    def __init__(
        self, folder: Path, *, read_only: bool, durable: bool, cards: Sequence[int], facts: Facts | None = None
    ) -> None:
        """Open a folder at its last commit.

        Args:
            folder: The folder, absolute: the program may go to another one while the store is open.
            read_only: Whether to leave writing to others.
            durable: Whether a commit waits for the disk.
            cards: Numbers of the GPUs to use.
            facts: What is said of a new index, which is made; None to open one.

        Raises:
            IndexLockedError: If another writer has it open.
            IntegrityError: If it cannot be read.
        """
        require("faiss")
        self.folder, self.read_only, self.durable = folder, read_only, durable
        self._parent: int | None = None  # the process that this one was forked from, and that alone may write
        self._lock = None if read_only else WriterLock(folder / "writer.lock")
        self.database = Database(folder, read_only=read_only, durable=durable)
        self.gpus: Gpus | None = None
        self._writing = RLock()
        self._publishing = Lock()  # held while a commit and the state that goes with it change
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
        """The last commit that was seen."""
        return self._state  # type: ignore[return-value]  # the constructor has seen one

    def close(self) -> None:
        """Let go of files and of the lock; closing twice does no harm."""
        with self._writing:  # a commit under way ends first
            if not self._closed:
                self._closed = True
                self.database.close()
                if self.gpus is not None:
                    self.gpus.close()
                if self._lock:
                    self._lock.release()

    def check_open(self) -> None:
        """Refuse to be used when closed."""
        if self._closed:
            raise InvalidInputError(f"{self.folder} is closed; open it again")

    def check_writable(self) -> None:
        """Refuse to be changed by who may only read."""
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
        """A commit and a view of the database that belong together.

        Yields:
            The state of the last commit.
        """
        self.check_open()
        database = self.database
        with database.in_use:
            own = not database.connection.in_transaction  # else in a view, or a commit, that this thread began before
            try:
                with self._publishing:  # no commit between the two
                    state = self._begun(own=own)
                yield state
            except DAMAGE as error:
                raise database.unreadable(error) from error
            finally:
                if own:
                    database.end()

    def refresh(self) -> None:
        """See what another process has committed since."""
        with self.reading():
            pass

    def is_last(self, state: State) -> bool:
        """Whether this is still the last commit of this object; a commit under way is waited for."""
        with self._publishing:
            return self._state is state

    def _begun(self, *, own: bool) -> State:
        """Begin a view of the database, and make the state that of its commit."""
        attempts = _ATTEMPTS if own else 1
        while True:
            if own:
                self.database.begin()
            try:
                if self._state is None or self._state.facts["version"] != self.database.version():
                    self._state = self._loaded()
            except (IntegrityError, FileNotFoundError):
                # Another process may have compacted since: then the files of this view are gone, not damaged.
                attempts -= 1
                if not attempts:
                    raise
                self.database.end()
            else:
                return self._state

    # -- writing -------------------------------------------------------------------------------------------------------

    @contextmanager
    def changing(self) -> Iterator[None]:
        """The right to write, from the last commit on: who was stopped right after one has not seen it yet."""
        self.check_writable()
        with self._writing:
            self.refresh()
            yield

    @contextmanager
    def committing(self) -> Iterator[sqlite3.Connection]:
        """One commit, inside `changing`: readers see all of it or nothing.

        Yields:
            The connection, in a transaction.
        """
        with ExitStack() as published:
            with self.database.transaction() as connection:
                yield connection
                published.enter_context(self._publishing)  # from the commit on, until the state is that of it
            self._state = self._loaded()

    def set_facts(self, **changes: object) -> None:
        """Write facts of the next version, inside `committing`."""
        facts = self.state.facts
        self.database.set_facts(sealed(cast("Facts", {**facts, **changes, "version": facts["version"] + 1})))

    def _forked(self) -> None:
        """Become a reader: the lock belongs to the parent process, and so do its connections to the database."""
        if self._lock is not None:
            self._lock.leave()
            self._lock, self._parent, self.read_only = None, os.getppid(), True
        self._writing, self._publishing = RLock(), Lock()  # a thread of the parent process may have held them
        self.database.forget_connections(read_only=self.read_only)
        self.gpus = None  # a forked process cannot use them
        if faiss := sys.modules.get("faiss"):
            faiss.omp_set_num_threads(1)  # it would wait forever for threads that a fork does not inherit
        state = self._state
        if state is not None and not (isinstance(state.built, SegmentFile) and state.built.is_read):
            self._state = replace(state, built=self._segment_file(state))  # a thread may have been reading it

    # -- the state and its segment -------------------------------------------------------------------------------------

    def _loaded(self) -> State:
        """The last commit, with the last state's segment if that is still right."""
        last = self._state
        state = load_state(self.folder, self.database, last)
        if self.gpus is not None:
            return replace(state, built=self._on_cards(self.gpus, state))
        if last is not None and last.facts["segment"] == state.facts["segment"]:
            return replace(state, built=last.built)
        return replace(state, built=self._segment_file(state))

    def _segment_file(self, state: State) -> SegmentFile | None:
        told = state.facts["segment"]
        return told and SegmentFile(self.folder / f"segment-{state.facts['generation']}.faiss", told)

    def _on_cards(self, gpus: Gpus, state: State) -> GpuSegment | None:
        last, facts = self._state, state.facts
        old = last.built if last and last.facts["generation"] == facts["generation"] else None
        if isinstance(old, GpuSegment) and facts["rows"] - old.rows <= max(_TAIL, old.rows // 4):
            return old
        if not state.live:
            return None
        return gpus.segment(state.vectors, euclidean=facts["metric"] == "l2", factory=facts["factory"])
