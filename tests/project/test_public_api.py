"""The public surface, the layers and what an import costs."""

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import ragkit
import ragkit.langchain
from ragkit import _renamed as renamed

ROOT = Path(__file__).parents[2]
HEAVY = {"numpy", "torch", "faiss", "transformers", "langchain", "langchain_core", "openai", "sklearn", "pydantic"}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


@pytest.mark.parametrize("name", ragkit.__all__)
def test_every_public_name_resolves(name):
    assert getattr(ragkit, name) is not None


def test_the_surface_is_exactly_the_list():
    assert sorted(ragkit.__all__) == sorted({*ragkit._HOME_OF, "__version__"})
    assert len(ragkit.__all__) <= 55
    assert set(ragkit.__all__) <= set(dir(ragkit))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = ragkit.Nothing


def test_type_checkers_see_the_same_names_as_users():
    text = (ROOT / "ragkit/__init__.py").read_text()
    shown = {line.rsplit(" as ", 1)[1] for line in text.splitlines() if line.startswith("    from ") and " as " in line}
    assert shown == set(ragkit._HOME_OF)


@pytest.mark.parametrize("name", renamed.PACKAGE_OF)
def test_a_name_of_the_first_version_is_found_where_the_error_says(name):
    with pytest.raises(ImportError) as error:
        exec(f"from ragkit import {name}")  # noqa: S102 - a name of our own
    assert error.value.name == name
    spelling = re.search(r"`(from \S+ import \w+)`", str(error.value))[1]
    found: dict[str, object] = {}
    exec(spelling, found)  # noqa: S102 - what our own message says
    assert not isinstance(found[name], ModuleType)


@pytest.mark.parametrize(("old", "new"), renamed.MODULES.items())
def test_a_module_of_the_first_version_names_its_new_package(old, new):
    with pytest.raises(ModuleNotFoundError) as error:
        import_module(old)
    assert error.value.name == old
    assert new in str(error.value)
    assert import_module(new).__all__


@pytest.mark.parametrize(("old", "new"), [("ragkit.models.local", "ragkit.models"), ("ragkit.files", "ragkit")])
def test_an_internal_module_names_its_package(old, new):
    with pytest.raises(ModuleNotFoundError, match=f"from `{new}`") as error:
        import_module(old)
    assert error.value.name == old
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        import_module("ragkit.models.nothing")


@pytest.mark.parametrize("package", ["ragkit.selectors", "ragkit_selectors"])
def test_renamed_selectors_name_their_new_names(package):
    with pytest.raises(ImportError, match="BaseSelector") as error:
        _ = import_module(package).Selecting
    assert error.value.name == "Selecting"


def test_public_packages_can_be_reached_without_importing_them():
    assert (
        run("import ragkit; print(ragkit.models.Price.__name__, ragkit.answers.__name__)") == "Price ragkit.answers\n"
    )


FACADES = ("comparison", "pearl", "pipelines", "selectors", "serving")


@pytest.mark.parametrize("name", FACADES)
def test_packages_of_other_layers_are_public_under_ragkit(name):
    module = import_module(f"ragkit.{name}")
    text = (ROOT / f"ragkit/{name}.py").read_text()
    shown = [line.rsplit(" as ", 1)[1] for line in text.splitlines() if line.startswith("    from ") and " as " in line]
    assert sorted(shown) == module.__all__
    assert all(getattr(module, each).__name__ for each in shown)
    with pytest.raises(AttributeError, match="'Nothing'"):
        _ = module.Nothing
    assert run(f"import sys, ragkit.{name}; print('numpy' in sys.modules)") == "False\n"


@pytest.mark.parametrize("page", [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"], ids=lambda path: path.name)
def test_documentation_imports_from_ragkit_only(page):
    assert not re.findall(r"(?:from|import) ragkit_(?:selectors|pipelines)\S*", page.read_text())


@pytest.mark.parametrize("name", ragkit.langchain.__all__)
def test_every_name_for_langchain_resolves(name):
    assert getattr(ragkit.langchain, name).__name__ == name
    assert name in dir(ragkit.langchain)


def test_the_names_for_langchain_are_shown_to_type_checkers_too():
    text = (ROOT / "ragkit/langchain.py").read_text()
    shown = [line.rsplit(" as ", 1)[1] for line in text.splitlines() if line.startswith("    from ") and " as " in line]
    assert sorted(shown) == sorted(ragkit.langchain.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = ragkit.langchain.Nothing
    assert run("import ragkit; print(ragkit.langchain.RagkitVectorStore.__name__)").strip() == "RagkitVectorStore"
    assert run("import sys, ragkit.langchain; print('langchain_core' in sys.modules)").strip() == "False"


def test_import_loads_nothing_heavy():
    loaded = json.loads(run("import ragkit, sys, json; print(json.dumps(sorted(sys.modules)))"))
    assert HEAVY.isdisjoint(loaded)


def test_the_standard_librarys_selectors_survives_from_the_root():
    run("import asyncio, subprocess, selectors; selectors.DefaultSelector")


def test_folders_of_the_parts_are_not_packages():
    assert not (ROOT / "selectors/__init__.py").exists()
    assert not (ROOT / "pipelines/__init__.py").exists()
