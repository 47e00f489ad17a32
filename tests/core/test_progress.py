"""Progress: bars on a terminal, in one display however deep the work is; and libraries that are kept quiet."""

import io
import logging
import sys
import warnings
from threading import Thread

import pytest

from ragkit import _progress as module
from ragkit._progress import progress, quiet_transformers


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch):
    """Made in the test itself: pytest puts its own stream there after the fixtures."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    return sys.stderr


def test_nothing_is_written_to_what_is_no_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress("working", 2) as advance:
        advance(1)
    assert sys.stderr.getvalue() == ""


def test_work_inside_of_work_has_a_line_of_its_own(monkeypatch):
    written = terminal(monkeypatch)
    with progress("outer [work]", 1200) as outer, progress("inner", None) as inner:
        outer(1100)
        inner(7)
        module._shown.refresh()
        shown = [(task.description, task.fields["count"]) for task in module._shown.tasks]
    assert shown == [("outer \\[work]", "1,100/1,200"), ("inner", "7")]
    assert "outer [work]" in written.getvalue()
    assert module._shown is None


def test_the_display_ends_with_the_work_when_that_fails(monkeypatch):
    terminal(monkeypatch)
    with pytest.raises(ValueError, match="no"), progress("outer", 1), progress("inner", 1):
        raise ValueError("no")
    assert module._shown is None


def test_threads_share_the_display(monkeypatch):
    terminal(monkeypatch)

    def work():
        with progress("thread", 10) as advance:
            for _ in range(10):
                advance(1)

    threads = [Thread(target=work) for _ in range(8)]
    with progress("all", 8):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [task.description for task in module._shown.tasks] == ["all"]
    assert module._shown is None


def chatter():
    from transformers.utils import logging as chatty

    level = logging.getLogger("sentence_transformers").level
    return chatty.is_progress_bar_enabled(), chatty.get_verbosity(), level, list(warnings.filters)


def test_overlapping_blocks_of_two_threads_put_everything_back():
    before = chatter()
    first, second = quiet_transformers(), quiet_transformers()
    with first:
        second.__enter__()
        assert chatter()[:3] == (False, logging.ERROR, logging.ERROR)
    assert chatter()[:3] == (False, logging.ERROR, logging.ERROR)
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn("old", FutureWarning, stacklevel=1)
    assert not caught
    second.__exit__(None, None, None)
    assert chatter() == before
    with pytest.raises(ZeroDivisionError), quiet_transformers():
        raise ZeroDivisionError
    assert chatter() == before
