"""A page for each command, with the help that the command itself prints."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import typer
from typer.testing import CliRunner

from ragkit_pipelines.cli import app

_WIDTH = "100"


@cache
def pages() -> dict[str, str]:
    """Give the Markdown of each page by its place in docs/."""
    top = typer.main.get_command(app)
    made = {"commands/index.md": f"# Commands\n\n{_SHELL}\n\n{_help(())}"}
    for name, command in top.commands.items():
        sections = [f"# ragkit {name}\n\n{_help((name,))}"]
        sections += [f"## ragkit {' '.join(words)}\n\n{_help(words)}" for words in _below(command, (name,))]
        made[f"commands/ragkit-{name}.md"] = "\n\n".join(sections)
    return made


_SHELL = """`ragkit --install-completion` teaches bash, zsh, fish or PowerShell to complete commands and options.

Exit codes: 0, done; 1, done, and there is something to look at (a prompt without an answer, two backends that differ);
2, a mistake, which one line on standard error names; 130, stopped by Ctrl-C. With `--json`, standard output holds
nothing but JSON. Progress is shown on standard error, on a terminal only."""


def _below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, part in getattr(command, "commands", {}).items():
        yield (*path, name)
        yield from _below(part, (*path, name))


def _help(words: tuple[str, ...]) -> str:
    shown = CliRunner().invoke(app, [*words, "--help"], prog_name="ragkit", env={"COLUMNS": _WIDTH, "TERM": "dumb"})
    if shown.exit_code:
        raise RuntimeError(f"ragkit {' '.join(words)} --help ended with {shown.exit_code}: {shown.output}")
    lines = [line.rstrip() for line in shown.output.strip("\n").splitlines()]
    return "```text\n" + "\n".join(lines).strip("\n") + "\n```"
