"""Progress of long work: a bar on a terminal, nothing elsewhere. Also keeps chatty libraries quiet."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how far a piece of work has come.

    Args:
        description: What is being done.
        total: Number of steps, None where unknown.

    Yields:
        A function to call with the number of steps just done.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.advance(task, steps)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' bars and notices for the length of a block, and put everything back."""
    import warnings

    from transformers.utils import logging as chatty

    bars, level = chatty.is_progress_bar_enabled(), chatty.get_verbosity()
    sentences = logging.getLogger("sentence_transformers")
    level_of_sentences = sentences.level
    chatty.disable_progress_bar()
    chatty.set_verbosity(logging.ERROR)
    sentences.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # What one library finds out of date in another is nothing that a user could change.
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        chatty.set_verbosity(level)
        sentences.setLevel(level_of_sentences)
        if bars:
            chatty.enable_progress_bar()
