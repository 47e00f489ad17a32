"""The parts that CONTRIBUTING.md shows are written as files, pass the contracts, and are used in one line each."""

import importlib
import re
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from ragkit import Example, FewShot, RandomSelector, RetrieveThenAnswer, Task, compare, load_model
from ragkit.testing import LanguageModelContract, RetrieverContract, SelectorContract
from ragkit_pipelines.rag import ExtractiveReader

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r'```python title="(.*?)"\n(.*?)```', PAGE, re.DOTALL)
FILES = {title: body for title, body in BLOCKS if title.endswith(".py")}
USES = {file: use for (file, _), (title, use) in pairwise(BLOCKS) if title == "use"}
POOL = [
    Example(f"dim the {thing} in the {room}", thing) for thing in ("lamp", "fan") for room in ("hall", "attic", "den")
]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """What the files define, imported as anyone would."""
    folder = tmp_path_factory.mktemp("parts")
    for name, body in FILES.items():
        (folder / name).write_text(body, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield {
            name: thing
            for file in FILES
            for name, thing in vars(importlib.import_module(file.removesuffix(".py"))).items()
        }
        for file in FILES:
            sys.modules.pop(file.removesuffix(".py"))


class TestSelector(SelectorContract):
    @pytest.fixture
    def selector(self, parts):
        return parts["EndingSelector"](POOL)

    def test_it_ranks_by_endings(self, selector):
        assert [example.input for example in selector.select("in an attic", 2)] == [
            "dim the lamp in the attic",
            "dim the fan in the attic",
        ]


class TestRetriever(RetrieverContract):
    @pytest.fixture
    def retriever(self, parts):
        return parts["NewestRetriever"](self.documents)


class TestModel(LanguageModelContract):
    @pytest.fixture
    def model(self, parts):
        return parts["ShoutingModel"]()


def test_there_is_a_line_for_each_file():
    assert USES.keys() == FILES.keys()
    assert len(FILES) == 4
    assert all(use.count("\n") == 1 for use in USES.values())


@pytest.mark.parametrize(
    ("file", "name", "expected"),
    [
        ("ending_selector.py", "answer", str),
        ("newest_retriever.py", "answer", str),
        ("shouting_model.py", "answer", str),
        ("first_word.py", "score", float),
    ],
)
def test_one_line_uses_it(parts, file, name, expected):
    task = Task("Name the thing.", examples=POOL, test=[Example("please dim the fan now", "fan !")], labels=None)
    known = {"pool": POOL, "documents": RetrieverContract.documents, "task": task, "replace": replace,
             "compare": compare, "FewShot": FewShot, "RandomSelector": RandomSelector, "load_model": load_model,
             "RetrieveThenAnswer": RetrieveThenAnswer, "ExtractiveReader": ExtractiveReader}  # fmt: skip
    names = {**parts, **known}
    exec(compile(USES[file], file, "exec"), names)  # noqa: S102 - our own text
    assert isinstance(names[name], expected)
    if file == "first_word.py":
        assert names["score"] == 1.0  # "fan" against "fan !", which an exact match would refuse
