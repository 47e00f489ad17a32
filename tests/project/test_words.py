"""Documentation, help texts and messages contain no phrase of the word list."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from typer.testing import CliRunner
from word_list import NAMES, PHRASES

from ragkit_pipelines.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "ragkit/tiny/weights/README.md",
    ROOT / "pipelines/ragkit_pipelines/datasets/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks").glob("*/LOG.md")),
]
# Texts that are not rewritten yet. Remove an entry when its text passes.
PAGES_NOT_YET: set[str] = set()
HELP_NOT_YET: set[str] = set()
# Files whose docstrings and messages pass. Add a pattern when the texts of a package are rewritten.
SOURCES = [
    "docs/site/*.py",
    "benchmarks/*.py",
    "benchmarks/real_models/*.py",
    "benchmarks/lexical/*.py",
    "ragkit/**/*.py",
    "selectors/**/*.py",
    "pipelines/**/*.py",
]

_SHORTEST = 3  # words of a string that is a text and not a name
_RULES = [(re.compile(key.replace(" ", r"\s+"), re.IGNORECASE), use) for key, use in PHRASES.items()]
_NAMES = [(re.compile(key), use) for key, use in NAMES.items()]


class Text(NamedTuple):
    """A text, and the line of the file on which it begins."""

    line: int
    text: str


def found(place: str, texts: list[Text], rules: list[tuple[re.Pattern[str], str]]) -> list[str]:
    """One line for each phrase: file, line, the phrase and its replacement."""
    return [
        f"{place}:{line + text.count(chr(10), 0, match.start())}: {' '.join(match[0].split())!r}; write: {use}"
        for line, text in texts
        for rule, use in rules
        for match in rule.finditer(text)
    ]


def prose(page: str) -> list[Text]:
    """A page without its code, whose lines stay in place; comments of Python code are texts of their own."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    comments = [
        Text(page.count("\n", 0, comment.start()) + 1, comment[1])
        for block in re.finditer(r"^```python.*?^```", page, re.MULTILINE | re.DOTALL)
        for comment in re.compile(r"(?<=[\s)])#(?!>)(.*)$", re.MULTILINE).finditer(page, block.start(), block.end())
    ]
    return [Text(1, re.sub(r"^```.*?^```|`[^`\n]+`", blank, page, flags=re.MULTILINE | re.DOTALL)), *comments]


def strings(source: str) -> Iterator[Text]:
    """Docstrings, messages and other strings of several words."""
    tree = ast.parse(source)
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            text = re.sub(r"``[^`]*``|`[^`\n]+`|^ *>>>.*$", "", node.value, flags=re.MULTILINE)
        else:
            continue
        if len(text.split()) >= _SHORTEST:
            yield Text(node.lineno, text)


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command, groups included."""
    pending: list[tuple[tuple[str, ...], object]] = [((), typer.main.get_command(app))]
    while pending:
        words, command = pending.pop()
        yield words
        pending += [((*words, name), each) for name, each in getattr(command, "commands", {}).items()]


@pytest.mark.parametrize("page", [page.relative_to(ROOT).as_posix() for page in PAGES])
def test_pages_use_the_terms_of_the_field(page):
    if page in PAGES_NOT_YET:
        pytest.skip("not rewritten yet")
    text = (ROOT / page).read_text(encoding="utf-8")
    assert not (lines := [*found(page, prose(text), _RULES), *found(page, [Text(1, text)], _NAMES)]), "\n".join(lines)


@pytest.mark.parametrize("words", sorted(commands()), ids=" ".join)
def test_help_uses_the_terms_of_the_field(words):
    command = " ".join(("ragkit", *words))
    if command in HELP_NOT_YET:
        pytest.skip("not rewritten yet")
    # Wide enough that no text is wrapped.
    shown = CliRunner().invoke(app, [*words, "--help"], prog_name="ragkit", env={"COLUMNS": "2000", "TERM": "dumb"})
    assert shown.exit_code == 0
    assert not (lines := found(f"{command} --help", [Text(1, shown.stdout)], _RULES)), "\n".join(lines)


@pytest.mark.parametrize("pattern", SOURCES)
def test_docstrings_and_messages_use_the_terms_of_the_field(pattern):
    files = sorted(ROOT.glob(pattern))
    assert files
    lines = []
    for path in files:
        source = path.read_text(encoding="utf-8")
        place = path.relative_to(ROOT).as_posix()
        lines += [*found(place, list(strings(source)), _RULES), *found(place, [Text(1, source)], _NAMES)]
    assert not lines, "\n".join(lines)


def test_phrases_are_found_across_lines_and_named_with_their_replacement():
    page = (
        "# Title\n\nA run that was killed `goes on` and\ngoes\non from there.\n\n```python\nx = 1  # at the most\n```\n"
    )
    assert found("page.md", prose(page), _RULES) == [
        "page.md:4: 'goes on'; write: resumes; continues",
        "page.md:8: 'at the most'; write: at most; at least",
    ]
    source = 'def f():\n    """Give the likeness\n    of texts."""\n    raise ValueError(f"{f} is no folder")\n'
    assert found("f.py", list(strings(source)), _RULES) == [
        "f.py:2: 'likeness'; write: similarity",
        "f.py:4: 'is no folder'; write: is not a …; is not valid …",
    ]
