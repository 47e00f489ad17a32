"""Warnings that are shown at the line of the caller's code."""

from __future__ import annotations

import sys
import warnings

_OWN = {"ragkit", "ragkit_selectors", "ragkit_pipelines"}


def warn_caller(warning: Warning) -> None:
    """Issue a warning at the first line outside ragkit, so that Python shows it once per call site."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OWN:
        level, frame = level + 1, frame.f_back
    warnings.warn(warning, stacklevel=level)
