"""Progress bars, shown only on a terminal, and silencing of the output of other libraries."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Lock, RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


_LOCK = RLock()
_shown: Progress | None = None  # the display of all bars; rich allows only one at a time


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show the progress of ``total`` steps (None if unknown); nested operations are shown below each other.

    Yields:
        A function to call with the number of steps that were just completed.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.markup import escape

    global _shown
    with _LOCK:
        if _shown is None:
            _shown = _display()
            _shown.start()
        bar = _shown
        task = bar.add_task(escape(description), total=total, count=_count(0, total))
    done = 0

    def advance(steps: int) -> None:
        nonlocal done
        done += steps
        bar.update(task, advance=steps, count=_count(done, total))

    try:
        yield advance
    finally:
        with _LOCK:
            bar.remove_task(task)
            if not bar.task_ids:
                bar.stop()
                _shown = None


def _display() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
    times = (TimeElapsedColumn(), TimeRemainingColumn(compact=True))
    return Progress(*columns, *times, console=Console(stderr=True), transient=True)


def _count(done: int, total: int | None) -> str:
    return f"{done:,}/{total:,}" if total is not None else f"{done:,}" if done else ""


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
