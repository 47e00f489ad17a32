import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import pytest
from scipy.stats import binomtest
from waiting import wait_for

from ragkit import Budget, Example, ScriptedModel, Task, advise, compare
from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError, LeakageWarning, ModelError, UnknownSpecError
from ragkit.registry import specs
from ragkit.tiny.domains import HOME, task_of
from ragkit_pipelines.compare import CompareOptions
from ragkit_pipelines.compare.jobs import setting_key
from ragkit_pipelines.compare.results import read_cell
from ragkit_pipelines.compare.statistics.recommendation import recommend, summarise
from ragkit_pipelines.compare.statistics.tests import holm, mcnemar, wilson
from ragkit_pipelines.compare.strategies import timing
from ragkit_pipelines.compare.strategies.base import Outcome, Setting
from ragkit_pipelines.compare.strategies.named import load_strategy
from ragkit_pipelines.compare.strategies.timing import Clock, TimedEmbedder

LABELLED = [
    Example(f"{word} number {n}", label) for word, label in (("card", "bank"), ("cake", "food")) for n in range(6)
]


def labelled_task(**changes):
    facts = {
        "instruction": "",
        "examples": LABELLED,
        "test": [
            Example("my card is lost", "bank"),
            Example("a cake please", "food"),
            Example("card and card", "bank"),
        ],
        "metric": "accuracy",
        "labels": ("bank", "food"),
    }
    return Task(**(facts | changes))


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (3, 10), (10, 10), (77, 3055)])
def test_wilson_equals_scipy(correct, n):
    expected = binomtest(correct, n).proportion_ci(method="wilson")
    assert wilson(correct, n) == pytest.approx((expected.low, expected.high))


def test_mcnemar_by_hand():
    a, b = [1] * 8 + [0] * 2 + [1] * 5, [0] * 8 + [1] * 2 + [1] * 5
    assert mcnemar(a, b) == (8, 2, pytest.approx(2 * (1 + 10 + 45) / 1024))
    assert mcnemar([1, 0], [0, 1]) == (1, 1, 1.0)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_labels_without_a_model(tmp_path):
    names = ["majority", "tfidf", "vote:jaccard", "vote:bm25", "vote:embedding", "classifier-head", "copy:jaccard"]
    result = compare(labelled_task(), names, embedder="hash:256", sizes=[4, None], seeds=[0, 1], out=tmp_path)
    rows = {(row.strategy, row.size, row.seed): row for row in result.results.rows}
    assert len(rows) == len(names) * 4
    assert {row.n for row in rows.values()} == {3}
    assert rows["vote:jaccard", 12, 0].correct == 3
    assert rows["majority", 12, 0].correct == 2
    stored = json.loads((tmp_path / "results.json").read_text())
    wanted = [
        "strategy",
        "model",
        "size",
        "seed",
        "n",
        "correct",
        "score",
        "low",
        "high",
        "prompt_tokens",
        "completion_tokens",
        "seconds",
        "cost",
    ]
    assert set(wanted) <= set(stored["rows"][0])
    assert len(stored["pairs"]) == 4 * len(names) * (len(names) - 1) / 2
    assert result.table().row_count == len(names)


def test_leaked_test_rows_are_reported_and_removed():
    leaky = labelled_task(test=[Example("CARD number 3!", "bank"), Example("a cake please", "food")])
    with pytest.warns(LeakageWarning, match="1 of 2 test rows"):
        result = compare(leaky, ["majority"], embedder="hash:64")
    assert (result.results.leaked_test_rows, result.results.rows[0].n) == (1, 1)


def test_a_folder_holds_the_comparison_of_one_task(tmp_path):
    compare(labelled_task(), ["majority"], embedder="hash:64", out=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
    with pytest.raises(InvalidInputError, match=re.escape(str(tmp_path))):
        compare(labelled_task(test=[Example("cake for two", "food")]), ["majority"], embedder="hash:64", out=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == before
    assert compare(labelled_task(), ["tfidf"], embedder="hash:64", out=tmp_path).results.rows[0].strategy == "tfidf"


def test_the_order_of_strategies_changes_neither_tokens_nor_what_counts_as_fitting(tiny):
    names = ["vote:embedding", "few-shot:embedding", "score:embedding", "zero-shot"]
    task = labelled_task()
    forward, backward = (
        {row.strategy: row for row in compare(task, order, model=tiny, embedder="hash:64").results.rows}
        for order in (names, names[::-1])
    )
    for name in names:
        tokens = [
            (row.prompt_tokens, row.completion_tokens, row.cached_tokens) for row in (forward[name], backward[name])
        ]
        assert tokens[0] == tokens[1]
        assert (forward[name].fit_seconds > 0) == (backward[name].fit_seconds > 0) == (name != "zero-shot")
    assert forward["score:embedding"].prompt_tokens == forward["few-shot:embedding"].prompt_tokens


class SlowEmbedder:
    """Takes a second for each text, on a clock of its own."""

    name, fingerprint, dim, seconds = "slow", "slow", 4, 0.0

    def embed_documents(self, texts):
        self.seconds += len(texts)
        return np.eye(4, dtype=np.float32)[[len(text) % 4 for text in texts]]

    embed_queries = embed_documents


def test_embeddings_are_computed_once_and_charged_every_time(monkeypatch):
    slow, clock = SlowEmbedder(), Clock()
    monkeypatch.setattr(timing, "perf_counter", lambda: slow.seconds)
    embedder = TimedEmbedder(slow, clock)
    for texts, charged in ((["a", "bb", "a"], 2), (["a", "bb"], 2), (["bb"], 1), (["bb", "ccc"], 2), ([], 0)):
        started = clock.now()
        vectors = embedder.embed_documents(texts)
        assert clock.now() - started == charged
        assert vectors.tolist() == np.eye(4)[[len(text) for text in texts]].tolist()
    assert slow.seconds == 1 + 3  # one text loads the weights
    with clock.paused():
        slow.seconds += 60
        clock.charge(60)
    assert clock.now() - started == 0


def test_prompts_of_zero_and_few_shot():
    task = Task("Name it.", [Example("dim it", "fade"), Example("open it", "vent")], [Example("dim that", "fade")])
    model = ScriptedModel(lambda prompt: " fade" if "fade" in prompt else " what?")
    result = compare(task, ["zero-shot", "few-shot:jaccard", "few-shot:random"], model=model, embedder="hash:64")
    assert [row.correct for row in result.results.rows] == [0, 1, 1]
    assert model.asked[0] == "Name it.\n\nInput: dim that\nOutput:"
    assert model.asked[1].endswith("Input: dim it\nOutput: fade\n\nInput: dim that\nOutput:")


@dataclass(frozen=True)
class Broken:
    name: str = "broken"

    def run(self, setting):
        raise ModelError("the server is gone")


def test_a_strategy_that_fails_leaves_the_others_alone(tmp_path):
    result = compare(labelled_task(), [Broken(), "majority"], embedder="hash:64", out=tmp_path)
    broken, majority = result.results.rows
    assert broken.error == "ModelError: the server is gone"
    assert (majority.error, majority.correct) == (None, 2)
    assert result.recommendation.strategy is None


@dataclass(frozen=True)
class Fixed:
    name: str
    right: int

    def run(self, setting):
        wanted = [row.output for row in setting.task.test]
        return Outcome([*wanted[: self.right], *[""] * (len(wanted) - self.right)])


def test_two_sizes_that_are_the_whole_pool_are_one(tmp_path):
    result = compare(labelled_task(), ["majority", "tfidf"], embedder="hash:8", sizes=[12, None], out=tmp_path)
    assert [(row.strategy, row.size) for row in result.results.rows] == [("majority", 12), ("tfidf", 12)]
    assert "seeds" not in result.recommendation.evidence


@dataclass(frozen=True)
class TooSure:
    name: str = "too sure"

    def run(self, setting):
        return Outcome([row.output for row in setting.task.test], confidence=[2.0] * len(setting.task.test))


def test_what_failed_has_no_score():
    row = compare(labelled_task(), [TooSure()], embedder="hash:8").results.rows[0]
    assert row.error == "InvalidInputError: `confidence` must be between 0 and 1"
    assert (row.correct, row.score) == (0, 0)


@dataclass(frozen=True)
class Growing:
    """Right in a share of the rows that grows with the pool."""

    name: str = "growing"

    def run(self, setting):
        wanted = [row.output for row in setting.task.test]
        right = {10: 10, 30: 20, 60: 28}[len(setting.pool)]
        return Outcome([*wanted[:right], *[""] * (len(wanted) - right)])


def test_a_strategy_without_a_mistake_can_be_the_target_of_a_curve():
    test = [Example(f"question {n}", "yes" if n % 2 else "no") for n in range(40)]
    task = Task("", [Example(f"any {n}", "yes") for n in range(60)], test)
    arms = [Growing(), Fixed("perfect", 40)]
    result = compare(task, arms, model=ScriptedModel([]), embedder="hash:8", sizes=[10, 30, 60])
    needed = result.examples_needed("growing", "perfect")
    assert needed.target == 1 - 0.5 / 40
    assert needed.size > 60


def test_a_recommendation_needs_evidence():
    test = [Example(f"question {n}", "yes" if n % 2 else "no") for n in range(40)]
    task = Task("", [Example("any", "yes")], test)
    clear = compare(task, [Fixed("good", 40), Fixed("bad", 10)], model=ScriptedModel([]), embedder="hash:8")
    assert clear.recommendation.strategy == "good"
    close = compare(task, [Fixed("good", 40), Fixed("same", 38)], model=ScriptedModel([]), embedder="hash:8")
    assert (close.recommendation.best, close.recommendation.significant) == ("good", False)
    assert "not significantly better than same (" in close.recommendation.evidence
    few = replace(task, test=test[:5])
    hardly = compare(few, [Fixed("good", 5), Fixed("bad", 0)], model=ScriptedModel([]), embedder="hash:8")
    assert (hardly.recommendation.strategy, hardly.recommendation.significant) == ("good", False)
    assert "minimum detectable difference: " in hardly.recommendation.evidence
    assert recommend([], []).strategy is None
    assert summarise("t", 0, close.cells).pairs[0].only_a == 2


@pytest.mark.parametrize(
    ("strategies", "options", "message"),
    [
        (["few-shot:jacard"], {}, "Did you mean 'few-shot:jaccard'"),
        (["majority", "majority"], {}, "unique names"),
        (["majority"], {"sizes": [99]}, "between 1 and 12"),
        (["majority"], {"seeds": []}, "must not be empty"),
    ],
)
def test_bad_calls_write_nothing(tmp_path, strategies, options, message):
    with pytest.raises((InvalidInputError, UnknownSpecError), match=message):
        compare(labelled_task(), strategies, embedder="hash:8", out=tmp_path / "out", **options)
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize("function", [compare, advise])
def test_a_keyword_that_became_an_option_names_its_new_spelling(function):
    with pytest.raises(InvalidInputError) as error:
        function(labelled_task(), trials=2, checks="off")
    spelling = re.search(r"options=(CompareOptions\(.*?\))", str(error.value))[1]
    assert spelling == "CompareOptions(trials=…, checks=…)"
    assert isinstance(eval(spelling.replace("…", "0", 1).replace("…", "'off'")), CompareOptions)  # noqa: S307


def test_every_name_is_its_strategys_own():
    plain = [spec for spec in specs("strategy") if "<" not in spec]
    assert [load_strategy(spec).name for spec in plain] == plain


SCRIPT = """
import os, sys, time
from random import Random
from ragkit import ScriptedModel, compare
from ragkit.tiny.domains import HOME, task_of

def answer(prompt):
    with open(sys.argv[2], "a") as log:
        log.write("x")
    while os.path.getsize(sys.argv[2]) == int(sys.argv[3]):  # waits to be killed
        time.sleep(0.01)
    return " none"

task = task_of(HOME, Random(0), pool=20, test=100)
compare(task, ["zero-shot", "few-shot:jaccard"], model=ScriptedModel(answer), embedder="hash:8", out=sys.argv[1])
"""


def test_a_killed_run_goes_on_without_repeating_finished_calls(tmp_path):
    log, out = tmp_path / "calls", tmp_path / "out"
    command = [sys.executable, "-c", SCRIPT, str(out), str(log)]
    first = subprocess.Popen([*command, "140"])
    wait_for(lambda: first.poll() is not None or (log.exists() and log.stat().st_size == 140))
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = log.stat().st_size
    assert not (out / "results.json").exists()
    command.append("0")
    subprocess.run(command, check=True)
    # 200 calls in all; only the group of 32 that was under way when the process died may come twice.
    assert before == 140
    assert 200 <= log.stat().st_size <= 200 + 32
    done = log.stat().st_size
    subprocess.run(command, check=True)
    assert log.stat().st_size == done
    assert len(json.loads((out / "results.json").read_text())["rows"]) == 2


def test_the_tiny_model_learns_from_examples_and_from_training(tmp_path, tiny):
    task = task_of(HOME, Random(5), pool=120, test=20)
    result = compare(task, ["zero-shot", "few-shot:jaccard", "lora"], model=tiny, embedder="hash:64", out=tmp_path)
    score = {row.strategy: row.score for row in result.results.rows}
    assert score["zero-shot"] <= 0.05
    assert score["few-shot:jaccard"] >= 0.6
    assert score["lora"] >= 0.6


def test_a_finished_cell_whose_letters_changed_is_done_again(tmp_path):
    task = labelled_task()
    first = compare(task, ["vote:jaccard"], embedder="hash:64", out=tmp_path)
    (path,) = (tmp_path / "kept").rglob("vote-jaccard.json")
    written = path.read_text()
    assert read_cell(path, json.loads(written)["key"]) == first.cells[0]
    path.write_text(written.replace('"correct": 3', '"correct": 2'))
    assert path.read_text() != written
    assert read_cell(path, json.loads(written)["key"]) is None
    assert compare(task, ["vote:jaccard"], embedder="hash:64", out=tmp_path).results.rows[0].correct == 3


def test_what_is_kept_is_of_one_setting(tmp_path):
    task = labelled_task()
    plain = Setting(
        task, task.examples, 0, ScriptedModel({"a": "b"}), load_embedder("hash:8"), tmp_path, tmp_path / "a"
    )
    others = [
        replace(plain, model=ScriptedModel({"a": "c"})),
        replace(plain, model=None),
        replace(plain, embedder=load_embedder("hash:16")),
        replace(plain, pool=task.examples[:4]),
        replace(plain, seed=1),
        replace(plain, held={"data": 1}),
        replace(plain, trials=2),
        replace(plain, task=labelled_task(instruction="Name it.")),
        replace(plain, task=labelled_task(metric="exact_match")),
    ]
    assert len({setting_key(each) for each in (plain, *others)}) == 1 + len(others)
    assert setting_key(replace(plain, budget=Budget(calls=1), folder=tmp_path / "b")) == setting_key(plain)
