"""Progress of long work: bars on a terminal; and silencing of the output of other libraries."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Lock, RLock
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from ragkit._stages import Stage

if TYPE_CHECKING:
    from rich.progress import Progress


_Number = TypeVar("_Number", bound=np.generic)
_AT_ONCE = 256  # texts between two reports of `in_parts`
_LOCK = RLock()
_open: list[Stage] = []  # of all threads, in the order in which they began
_recorded: list[list[Stage]] = []  # one list for each block of `recorded`
_shown: Progress | None = None  # the display of all bars; rich allows only one at a time


@contextmanager
def progress(description: str, total: int | None, unit: str = "") -> Iterator[Stage]:
    """Report the progress of ``total`` steps (None if unknown) in a unit, such as ``"rows"``.

    On a terminal, each stage is a bar; nested stages are shown below each other.

    Yields:
        The stage; call it with the number of steps that were just completed.
    """
    stage = Stage(description, total, unit)
    with _LOCK:
        _open.append(stage)
        for seen in _recorded:
            seen.append(stage)
    try:
        with _bar(stage) if sys.stderr.isatty() else ExitStack():
            yield stage
    finally:
        with _LOCK:
            _open[:] = [each for each in _open if each is not stage]


def open_stages() -> list[Stage]:
    """Return the stages in progress, the outermost one first."""
    with _LOCK:
        return list(_open)


@contextmanager
def recorded() -> Iterator[list[Stage]]:
    """Yield a list to which all stages are added that begin within the block."""
    seen: list[Stage] = []
    with _LOCK:
        _recorded.append(seen)
    try:
        yield seen
    finally:
        with _LOCK:
            _recorded[:] = [each for each in _recorded if each is not seen]


def in_parts(
    description: str, work: Callable[[Sequence[str]], NDArray[_Number]], texts: Sequence[str]
) -> NDArray[_Number]:
    """Apply a function that returns one row of an array per text to a few texts at a time, and report the progress."""
    with progress(description, len(texts), "rows") as stage:
        parts = []
        for start in range(0, len(texts), _AT_ONCE):
            parts.append(work(texts[start : start + _AT_ONCE]))
            stage(len(parts[-1]))
        return np.concatenate(parts)


@contextmanager
def _bar(stage: Stage) -> Iterator[None]:
    from rich.markup import escape

    global _shown
    with _LOCK:
        if _shown is None:
            _shown = _display()
            _shown.start()
        bar = _shown
        task = bar.add_task(escape(stage.description), total=stage.total, count=stage.count, stage=stage)
    stage.changed = lambda: bar.update(task, total=stage.total, completed=stage.done, count=stage.count)
    try:
        yield
    finally:
        with _LOCK:
            bar.remove_task(task)
            if not bar.task_ids:
                bar.stop()
                _shown = None


def _display() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Rates(ProgressColumn):
        """The rates of a stage and the time left, which rich would compute from cached steps as well."""

        def render(self, task: Task) -> Text:
            return Text(", ".join(task.fields["stage"].rates()))

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
    return Progress(*columns, TimeElapsedColumn(), Rates(), console=Console(stderr=True), transient=True)


class _Quiet:
    """Silences libraries while any block is open; blocks of threads may overlap, and the last restores the state."""

    def __init__(self) -> None:
        self._lock, self._open, self._undo = Lock(), 0, ExitStack()

    @contextmanager
    def block(self) -> Iterator[None]:
        with self._lock:
            if not self._open:
                self._undo = _silenced()
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                if not self._open:
                    self._undo.close()


_QUIET = _Quiet()


def quiet_transformers() -> AbstractContextManager[None]:
    """Silence the progress bars and messages of transformers during a block, and restore them afterwards."""
    return _QUIET.block()


def _silenced() -> ExitStack:
    """Silence the libraries; closing the stack restores the previous state."""
    import warnings

    from transformers.utils import logging as chatty

    undo = ExitStack()
    sentences = logging.getLogger("sentence_transformers")
    undo.callback(chatty.set_verbosity, chatty.get_verbosity())
    undo.callback(sentences.setLevel, sentences.level)
    chatty.set_verbosity(logging.ERROR)
    sentences.setLevel(logging.ERROR)
    if chatty.is_progress_bar_enabled():
        undo.callback(chatty.enable_progress_bar)
        chatty.disable_progress_bar()
    undo.enter_context(warnings.catch_warnings())
    # Users cannot act on deprecations that one library reports about another.
    warnings.simplefilter("ignore", FutureWarning)
    return undo
