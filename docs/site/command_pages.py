"""Generate a page for each command from its own help text."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import typer
from typer.testing import CliRunner

from ragkit_pipelines.cli.main import app

_WIDTH = "100"


@cache
def pages() -> dict[str, str]:
    """Return the Markdown of each page by its path in docs/."""
    top = typer.main.get_command(app)
    made = {"commands/index.md": f"# Commands\n\n{_SHELL}\n\n{_help(())}"}
    for name, command in top.commands.items():
        sections = [f"# ragkit {name}\n\n{_help((name,))}"]
        sections += [f"## ragkit {' '.join(words)}\n\n{_help(words)}" for words in _below(command, (name,))]
        made[f"commands/ragkit-{name}.md"] = "\n\n".join(sections)
    return made


_SHELL = """`ragkit --install-completion` enables completion of commands and options in bash, zsh, fish or PowerShell.

| Exit code | Meaning |
|-|-|
| 0 | success |
| 1 | the command finished, and its output needs attention (a prompt without an answer, two backends that differ) |
| 2 | an error, described by one line on standard error |
| 130 | stopped by Ctrl-C |

With `--json`, standard output contains only JSON. Progress is shown on standard error if it is a terminal."""


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
