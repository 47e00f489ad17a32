"""A pool that is smaller than k is reported wherever examples are selected, and once at each call."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from ragkit import Example, FewShot, ScriptedModel, Task
from ragkit.comparison import compare
from ragkit.errors import SmallPoolWarning
from ragkit.selectors import load_selector

POOL = [Example(f"dim the {word}", "lamp" if n % 2 else "fan") for n, word in enumerate(("lamp", "fan", "song"))]
SAID = "5 examples were requested, but the pool has 3; 3 are"


def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            call()
    return [each for each in caught if issubclass(each.category, SmallPoolWarning)]


@pytest.mark.parametrize("spec", ["bm25", "random", "bm25 | mmr", "hybrid"])
def test_each_call_site_is_told_once(spec: str):
    selector = load_selector(spec, POOL, embedder="hash:32")
    pipeline = FewShot(ScriptedModel(lambda _: "lamp"), selector, k=5)
    langchain = selector.as_langchain(k=5)
    for call in (
        lambda: selector.select("lamp", 5),
        lambda: selector.select_many(["lamp", "fan", "song"], 5),
        lambda: pipeline.invoke("lamp"),
        lambda: pipeline.batch(["lamp", "fan"]),
        lambda: langchain.select_examples({"input": "lamp"}),
    ):
        (warning,) = warned(call)
        assert SAID in str(warning.message)
        assert warning.filename == __file__
    assert SAID in str(warned(lambda: asyncio.run(selector.aselect("lamp", 5)))[0].message)
    assert not warned(lambda: selector.select("lamp", 3))


@pytest.mark.parametrize("strategy", ["vote:bm25@5", "few-shot:bm25@5", "score:bm25@5"])
def test_the_strategies_of_a_comparison_say_it(tmp_path: Path, strategy: str):
    task = Task("", POOL, [Example("dim it", "fan"), Example("sing it", "fan")], labels=("fan", "lamp"))
    with pytest.warns(SmallPoolWarning, match=f"{strategy}: {SAID} used"):
        compare(task, [strategy], model="tiny", embedder="hash:32", out=tmp_path / "out")


def test_zero_shot_needs_no_examples(tmp_path: Path):
    task = Task("", POOL, [Example("dim it", "fan"), Example("sing it", "fan")], labels=("fan", "lamp"))
    assert not warned(lambda: compare(task, ["zero-shot"], model="tiny", embedder="hash:32", out=tmp_path / "out"))


def test_the_command_line_says_it_once(tmp_path: Path):
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(f'{{"input": "{row.input}", "output": "{row.output}"}}\n' for row in POOL))
    command = [
        sys.executable,
        "-m",
        "ragkit_pipelines.cli",
        "select",
        "--pool",
        str(path),
        "--query",
        "lamp",
        "--k",
        "5",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count(SAID)) == (0, 1), done.stderr
