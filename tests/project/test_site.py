"""The documentation site builds without a warning, names everything public, and fetches nothing."""

import ast
import os
import re
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import ragkit
from ragkit.registry import KINDS, specs

ROOT = Path(__file__).parents[2]


REFERENCE = runpy.run_path(str(ROOT / "docs" / "site" / "reference_pages.py"))
WHOLE = {module: import_module(module) for _, module in REFERENCE["WHOLE"].values()}
PACKAGES = [package for _, packages in REFERENCE["TOPICS"].values() for package in packages]


@pytest.mark.parametrize("name", [name for name in ragkit.__all__ if name != "__version__"])
def test_every_name_at_top_level_belongs_to_a_public_package(name):
    homes = [package for package in (*PACKAGES, *WHOLE) if name in getattr(import_module(package), "__all__", [name])]
    assert any(getattr(import_module(home), name, None) is getattr(ragkit, name) for home in homes)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_can_be_imported(package):
    module = import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert not isinstance(getattr(module, name), ModuleType), f"{package}.{name} is hidden by a module"


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_documentation_imports_public_names_only(page):
    snippets = re.findall(r"```python[^\n]*\n(.*?)```", page.read_text(), re.DOTALL)
    for node in (node for code in snippets for node in ast.walk(ast.parse(code))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ragkit"):
            assert node.module == "ragkit" or node.module in PACKAGES or node.module in WHOLE, node.module
            if node.module not in WHOLE:
                assert {each.name for each in node.names} <= set(import_module(node.module).__all__), node.module


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
    paths = [REFERENCE["path_of"](package, name) for package in PACKAGES for name in import_module(package).__all__]
    assert [path for path in paths if f'id="{path}"' not in shown] == []
    assert 'id="ragkit.errors.RagkitError"' in shown


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
