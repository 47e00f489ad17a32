"""What the seeds of a comparison decide: the draw of the pool, training, and selectors that draw by chance."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest

from ragkit import Example, ScriptedModel, Task, compare
from ragkit.errors import InvalidInputError
from ragkit_pipelines.compare import CompareOptions
from ragkit_pipelines.compare.strategies.base import Outcome
from ragkit_pipelines.compare.strategies.prompt_search import OptimisedPrompt

POOL = [Example(f"input {n}", str(n)) for n in range(60)]
TASK = Task("", POOL, [Example(f"question {n}", "7") for n in range(40)])


@dataclass(frozen=True)
class Witness:
    """Answers with what each of the three seeds decided."""

    name: str = "witness"

    def run(self, setting):
        held_out = sorted(row.output for row in setting.held_out(self.name)[1])
        tried = [str(each) for each in OptimisedPrompt().candidates(setting)]
        said = json.dumps([sorted(row.output for row in setting.pool), held_out, tried, setting.seed_of("order")])
        return Outcome([said] * len(setting.task.test))


def facts(vary, out=None):
    """For each run the pool, the rows held out of it, the prompts tried and the seed of selectors."""
    result = compare(TASK, [Witness(), "few-shot:random@2"], model=ScriptedModel(lambda prompt: prompt[-99:]),
                     embedder="hash:8", sizes=[20], seeds=[3, 4, 5], out=out,
                     options=CompareOptions(vary=vary))  # fmt: skip
    seen = [json.loads(each.answers[0]) for each in result.items.answers if each.strategy == "witness"]
    shown = [tuple(cell.prompts) for cell in result.cells if cell.row.strategy == "few-shot:random@2"]
    return result, [{json.dumps(run[part]) for run in seen} for part in range(4)], set(shown)


@pytest.mark.parametrize(
    ("vary", "pools", "prompts", "orders", "few_shot"),
    [
        (("data", "model", "order"), 3, 3, 3, 3),
        (("data",), 3, 1, 1, 3),
        (("model",), 1, 3, 1, 1),
        (("order",), 1, 1, 3, 3),
    ],
)
def test_each_seed_decides_its_own_part(vary, pools, prompts, orders, few_shot):
    result, (pool, held_out, tried, order), shown = facts(vary=vary)
    assert (len(pool), len(held_out), len(tried), len(order), len(shown)) == (pools, pools, prompts, orders, few_shot)
    for what in ("data", "model", "order"):
        found = [getattr(row, f"{what}_seed") for row in result.results.rows if row.strategy == "witness"]
        assert found == ([3, 4, 5] if what in vary else [3, 3, 3])
    assert [row.seed for row in result.results.rows[::2]] == [3, 4, 5]
    assert {each.seeds for each in result.results.differences} == {3}
    said = result.recommendation.evidence
    assert ("; only one seed of " in said) is (len(vary) < 3)
    assert ("held" in result.results.provenance) is (len(vary) < 3)


def test_held_seeds_are_not_mixed_up_with_others_in_one_folder(tmp_path):
    first, *_ = facts(vary=["model"], out=tmp_path)
    second, *_ = facts(vary=["data"], out=tmp_path)
    kept = [[cell.answers[0] for cell in result.cells if cell.row.strategy == "witness"] for result in (first, second)]
    assert kept[0][1:] != kept[1][1:]
    again, *_ = facts(vary=["model"], out=tmp_path)
    assert [cell.answers for cell in again.cells] == [cell.answers for cell in first.cells]


@pytest.mark.parametrize(("vary", "seeds"), [((), [0]), (("colour",), [0]), (("data",), [1, 1])])
def test_what_makes_no_sense_is_refused(vary, seeds):
    with pytest.raises(InvalidInputError, match="must be"):
        compare(TASK, ["majority"], model="tiny", embedder="hash:8", seeds=seeds, options=CompareOptions(vary=vary))


def test_the_command_line(tmp_path):
    rows = [{"input": row.input, "output": row.output, "split": split}
            for split, part in (("train", POOL), ("test", TASK.test)) for row in part]  # fmt: skip
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = subprocess.run(
        [sys.executable, "-m", "ragkit_pipelines.cli", "compare", "--data", tmp_path / "data.jsonl", "--strategies",
         "copy:random", "--seeds", "1,2", "--vary", "order", "--sizes", "all", "--embedder", "hash:8",
         "--out", tmp_path / "out", "--json"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [(row["data_seed"], row["order_seed"]) for row in json.loads(done.stdout)["rows"]]
    assert found == [(1, 1), (1, 2)]
