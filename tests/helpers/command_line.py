"""The command line in this process, so that a test does not wait for torch to be loaded again."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from types import SimpleNamespace
from unittest import mock


def run(*arguments: object, stdin: str | io.StringIO = "") -> SimpleNamespace:
    """Run ``ragkit`` and give its returncode, stdout and stderr."""
    from ragkit_pipelines.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        mock.patch.object(sys, "argv", ["ragkit", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.StringIO(stdin) if isinstance(stdin, str) else stdin),
        mock.patch.object(warnings, "showwarning", warnings.showwarning),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return SimpleNamespace(returncode=code or 0, stdout=out.getvalue(), stderr=err.getvalue())
