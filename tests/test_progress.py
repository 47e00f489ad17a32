"""Progress, and libraries that are kept quiet."""

import logging
import sys
import warnings

import pytest

from ragkit.progress import progress, quiet_transformers


def test_off_a_terminal_nothing_is_shown(capsys: pytest.CaptureFixture[str]):
    with progress("counting", 3) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_a_bar_is_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("counting", 3) as advance:
        advance(3)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "counting" in shown.err


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
