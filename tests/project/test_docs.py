"""Every snippet in README and docs runs and prints what it says; tables are those of the committed results."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import typer
from command_line import run

from ragkit_pipelines.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SNIPPETS = [
    pytest.param(code, id=f"{page.name}-{place}")
    for page in PAGES
    for place, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("code", SNIPPETS)
def test_snippets_print_what_they_say(code, tiny):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})  # noqa: S102 - our own text
    expected = re.findall(r"^ *#> ?(.*)$", code, re.MULTILINE)
    assert [line.rstrip() for line in printed.getvalue().splitlines()] == [line.rstrip() for line in expected]


WITH_COMMANDS = [page for page in PAGES if "```console\n" in page.read_text()]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_commands_print_what_they_say(page, tmp_path, monkeypatch):
    """Files with a title are written, then commands after ``$`` run in order; ``…`` stands for any text."""
    monkeypatch.chdir(tmp_path)
    for kind, title, body in re.findall(r"^```(\w+)(?: title=\"(.*?)\")?\n(.*?)^```$", page.read_text(), re.M | re.S):
        if title:
            Path(title).parent.mkdir(parents=True, exist_ok=True)
            Path(title).write_text(body, encoding="utf-8")
        elif kind == "console":
            for command, expected in re.findall(r"^\$ ragkit (.*)\n((?:(?!\$ ).*\n)*)", body, re.M):
                done = run(*shlex.split(command))
                assert (done.returncode == 2) == expected.startswith("error:"), done.stderr
                printed = done.stderr if done.returncode else done.stdout
                pattern = re.sub(r"([\[\]?*])", r"[\1]", expected.strip()).replace("[]]", "]").replace("…", "*")
                assert fnmatchcase(printed.strip(), pattern), f"{command} printed:\n{printed}"


SHOWN = {
    line.split("#")[0].partition(" > ")[0].strip()
    for page in PAGES
    for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```$", page.read_text(), re.M | re.S)
    for line in block.replace("\\\n", " ").splitlines()
    if line.removeprefix("$ ").startswith("ragkit ")
}


@pytest.mark.parametrize("line", sorted(SHOWN))
def test_commands_and_options_that_are_shown_exist(line):
    words = shlex.split(line.removeprefix("$ "))[1:]
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known | {"--install-completion"}


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_tables_are_made_from_the_committed_results():
    subprocess.run([sys.executable, ROOT / "benchmarks/update_readme.py", "--check"], check=True, cwd=ROOT)


@pytest.mark.parametrize("package", ["ragkit", "selectors", "pipelines"])
def test_docstring_examples(package):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--doctest-modules", "-p", "no:cacheprovider", package],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
