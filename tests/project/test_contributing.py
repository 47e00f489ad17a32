"""The components that CONTRIBUTING.md shows pass the contracts, and are used by spec, imported and as plugins."""

import json
import re
import subprocess
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
from plugins import distribution, restored_registry

from ragkit import Example, Index
from ragkit.registry import KINDS
from ragkit.testing import EmbedderContract, LanguageModelContract, RetrieverContract, SelectorContract

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r'```python title="(.*?)"\n(.*?)```', PAGE, re.DOTALL)
FILES = {title.removesuffix(".py"): body for title, body in BLOCKS if title.endswith(".py")}
USES = {file.removesuffix(".py"): use for (file, _), (title, use) in pairwise(BLOCKS) if title == "use"}
# What a user has at hand in the lines that use the components.
SETUP = """
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from ragkit import Document, Example, FewShot, Index, RerankingRetriever, ScriptedModel, Task, compare
from ragkit import load_model, load_selector
from ragkit.ingest import load_chunker
from ragkit.retrievers._loading import load_retriever
pool = [Example(f"dim the {thing} in the {room}", thing) for thing in ("lamp", "fan") for room in ("hall", "attic")]
task = Task("Name the thing.", examples=pool, test=[Example("please dim the fan now", "fan !")], labels=None)
path = Path(tempfile.gettempdir(), f"ragkit-rows-{os.getpid()}.jsonl")
index = Index.create(None, embedder="hash:64")
index.add(["a lamp", "a red lamp", "the newest of all lamps"])
"""
EXPECTED = {
    "ending_selector": "dim the lamp in the attic",
    "shortest_stage": "dim the fan in the hall",  # one character shorter than "dim the lamp in the hall"
    "shouting_model": "DIM THE LAMP",
    "letter_embedder": "fan",
    "line_chunker": ["one\ntwo\n", "three"],
    "newest_retriever": "the newest of all lamps",
    "brevity_reranker": "a lamp",
    "first_word": 1.0,  # "fan" against "fan !", which an exact match would refuse
    "constant_strategy": 1.0,
    "last_word_reader": "fan",
    "file_tracker": 1,
}


@pytest.fixture(scope="module")
def components(tmp_path_factory):
    """What the files define, imported as a script would."""
    with pytest.MonkeyPatch.context() as patch, restored_registry():
        patch.syspath_prepend(distribution(tmp_path_factory.mktemp("files"), FILES, entry_points=[]))
        yield {name: each for file in FILES for name, each in vars(import_module(file)).items()}
        for file in FILES:
            sys.modules.pop(file)


class TestSelector(SelectorContract):
    @pytest.fixture
    def selector(self, components):
        rooms = ("hall", "attic", "den")
        return components["EndingSelector"](
            [Example(f"dim the {thing} in the {room}", thing) for thing in ("lamp", "fan") for room in rooms]
        )


class TestRetriever(RetrieverContract):
    @pytest.fixture
    def retriever(self, components):
        with Index.create(None, embedder="hash:16") as index:
            index.add(self.documents)
            yield components["NewestRetriever"](index)


class TestModel(LanguageModelContract):
    @pytest.fixture
    def model(self, components):
        return components["ShoutingModel"]()


class TestEmbedder(EmbedderContract):
    @pytest.fixture
    def embedder(self, components):
        return components["LetterEmbedder"]()


def test_the_page_shows_every_kind_with_one_line_that_uses_it():
    kinds = [re.findall(r'@register\("(.*?)"', body) for body in FILES.values()]
    assert sorted(kinds) == sorted([kind] for kind in KINDS)
    assert USES.keys() == FILES.keys() == EXPECTED.keys()
    assert all(use.count("\n") == 1 for use in USES.values())


@pytest.mark.parametrize("file", FILES)
def test_a_registered_component_is_used_by_its_spec(components, file):
    names = {}
    exec(compile(SETUP + USES[file], file, "exec"), names)  # noqa: S102 - our own text
    names["index"].close()
    assert names["answer"] == EXPECTED[file]


def test_an_installed_component_is_used_by_its_spec(tmp_path):
    distribution(tmp_path, FILES, entry_points=FILES)
    uses = "\n".join(f"{use}answers[{file!r}] = answer" for file, use in USES.items())
    program = f"import json\n{SETUP}\nanswers = {{}}\n{uses}\nindex.close()\nprint(json.dumps(answers))"
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    done = subprocess.run([sys.executable, "-c", start + program], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1]) == EXPECTED
