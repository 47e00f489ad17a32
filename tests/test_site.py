"""The documentation site builds without a warning, names everything public, and fetches nothing."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import ragkit
import ragkit.langchain
from ragkit.registry import KINDS, specs

ROOT = Path(__file__).parents[1]


def test_every_public_name_has_a_topic():
    """A name that no topic takes stops the site from being built."""
    pages = runpy.run_path(str(ROOT / "docs" / "site" / "reference_pages.py"))["pages"]()
    shown = {line for page in pages.values() for line in page.splitlines()}
    homes = {**ragkit._HOME_OF, **ragkit.langchain._HOME_OF}
    asked = {home if home == "ragkit.errors" else f"{home}.{name}" for name, home in homes.items()}
    assert {f"::: {place}" for place in asked} <= shown


def test_every_component_is_listed():
    page = runpy.run_path(str(ROOT / "docs" / "site" / "component_pages.py"))["page"]()
    for kind in KINDS:
        section = page.split(f"## {kind.capitalize()}s\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `(.*?)` \|", section, re.MULTILINE) == specs(kind)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for name in ("material", "mkdocstrings"):
        pytest.importorskip(name, reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_nothing_is_fetched(site):
    for page in site.rglob("*.html"):
        assert not re.search(r"""(src|srcset)=["']?https?:|<link[^>]+href=["']?https?:""", page.read_text()), page
    assert not [page for page in site.rglob("*.css") if re.search(r"url\(['\"]?https?:|@import", page.read_text())]


def test_every_public_name_is_in_the_reference(site):
    shown = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    homes = {**ragkit._HOME_OF, **ragkit.langchain._HOME_OF}
    missing = [name for name, home in homes.items() if f'id="{home}.{name}"' not in shown]
    assert sorted(missing) == []


def test_every_command_has_its_help(site):
    import typer

    from ragkit_pipelines.cli.main import app

    for name, command in typer.main.get_command(app).commands.items():
        page = (site / "commands" / f"ragkit-{name}.html").read_text()
        for part in ("", *getattr(command, "commands", {})):
            assert f"Usage: ragkit {name} {part}".strip() in page


def test_every_plot_is_drawn_where_a_page_asks_for_it(site):
    asked = re.findall(r"<!-- plot: (.*?) -->", (ROOT / "docs/benchmarks.md").read_text())
    page = (site / "benchmarks.html").read_text()
    for name in asked:
        assert f'src="plots/{name}.svg"' in page
        assert "<svg" in (site / "plots" / f"{name}.svg").read_text()
    assert {path.stem for path in (site / "plots").iterdir()} == set(asked)
