"""Every snippet in README and docs runs and prints what it says; tables are those of the committed results."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
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
