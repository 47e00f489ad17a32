"""Estimates of a comparison: exact counts with a scripted model, failures, and nothing left behind."""

import json
import tempfile
from dataclasses import dataclass, replace

import pytest
from command_line import run

from ragkit import Example, ScriptedModel, Task, compare
from ragkit.comparison import CompareOptions, Outcome, PriceRange, estimate
from ragkit.errors import InvalidInputError
from ragkit.models import Budget, Price
from ragkit_pipelines.compare.measuring import Measured, measure
from ragkit_pipelines.compare.planning import planned
from ragkit_pipelines.compare.sampling import Seconds, try_on
from ragkit_pipelines.compare.strategies import training
from ragkit_pipelines.compare.strategies.named import load_strategy
from ragkit_pipelines.compare.strategies.training import EncoderTuning, Tuning

# All inputs and outputs have the same length, so that a sample of rows tells the tokens of all.
POOL = [Example(f"{word} it {n}", label) for n in range(10, 40) for word, label in (("dims", "fade"), ("open", "vent"))]
TEST = [Example(f"{word} to {n}", label) for n in range(10, 35) for word, label in (("dims", "fade"), ("open", "vent"))]
TASK = Task("Name it.", POOL, TEST)


def vent(prompt):
    return " vent"


def scripted():
    return ScriptedModel(vent)


def counted(strategies, **settings):
    """Calls, prompt tokens and completion tokens: as estimated, and as a comparison makes them."""
    model = scripted()
    expected = estimate(TASK, strategies, model=scripted(), embedder="hash:8", **settings)
    result = compare(TASK, strategies, model=model, embedder="hash:8", **settings)
    assert not expected.failed
    assert not any(row.error for row in result.results.rows)
    total = expected.total
    return (total.calls, total.prompt_tokens, total.completion_tokens), (
        len(model.asked), sum(map(model.count_tokens, model.asked)), len(model.asked) * model.count_tokens(" vent"),
    )  # fmt: skip


@pytest.mark.parametrize("strategies", [["zero-shot"], ["few-shot:bm25@2"], ["majority", "vote:bm25"]])
def test_counts_are_those_of_the_comparison(strategies):
    expected, made = counted(strategies)
    assert expected == made


def test_repeated_calls_are_counted_once():
    expected, made = counted(["zero-shot", "few-shot:fixed@2"], sizes=[10, None], seeds=[0, 1])
    assert expected == made
    assert made[0] == len(TEST) * (1 + 3)  # the prompts of zero-shot are the same everywhere; fixed has three pools


def test_calls_in_fitting_follow_the_number_of_held_out_rows():
    expected, made = counted(["optimised-prompt"], options=CompareOptions(trials=2))
    assert expected[0] == made[0] == 2 * (len(POOL) // 5) + len(TEST)


def test_each_strategy_and_size_has_a_line():
    found = estimate(
        TASK, ["majority", "zero-shot"], model=scripted(), embedder="hash:8", sizes=[10, None], seeds=[0, 1]
    )
    assert [(each.strategy, each.size, each.runs) for each in found.strategies] == [
        ("majority", 10, 2), ("zero-shot", 10, 2), ("majority", 60, 2), ("zero-shot", 60, 2),
    ]  # fmt: skip
    text = str(found)
    assert "| zero-shot | 10 | 2 |" in text
    assert "| total |  | 8 |" in text
    assert "steps" not in text  # nothing is trained
    assert ", 50 calls with 450 prompt tokens, 100 completion tokens; " in text.splitlines()[-1]
    assert found.total.cost == 0.0


def test_given_prices_are_used():
    prices = PriceRange(base=[Price(input=1.0, output=2.0), Price(input=100.0, output=200.0)])
    found = estimate(TASK, ["zero-shot"], model=scripted(), embedder="hash:8", options=CompareOptions(prices=prices))
    total = found.total
    assert total.cost == pytest.approx((100 * total.prompt_tokens + 200 * total.completion_tokens) / 1e6)


def test_a_strategy_that_fails_is_named_and_the_others_are_estimated():
    class Failing:
        name = "failing"

        def run(self, setting):
            raise RuntimeError("no luck")

    several = estimate(TASK, [Failing()], embedder="hash:8", sizes=[10, None])
    assert [line.split(": ")[:2] for line in several.failures()] == [["failed", "failing, pool 10, 60"]]
    found = estimate(TASK, ["majority", Failing()], model=scripted(), embedder="hash:8")
    (failed,) = found.failed
    assert failed.strategy == "failing"
    assert failed.error.startswith("RuntimeError: no luck (")
    assert str(found).splitlines()[-2].startswith("failed: failing, pool 60: RuntimeError: no luck")
    assert found.total.runs == 1


def test_the_budget_limits_the_calls_of_the_estimate():
    model = scripted()
    found = estimate(TASK, ["zero-shot"], model=model, embedder="hash:8", budget=Budget(calls=3))
    assert "the budget is 3" in found.failed[0].error
    assert len(model.asked) <= 3


def test_training_by_a_provider_is_not_tried():
    found = estimate(TASK, [Tuning("api")], model=scripted(), embedder="hash:8")
    assert "paid for" in found.failed[0].error


def test_too_few_rows_are_an_error():
    with pytest.raises(InvalidInputError, match="`rows` must be at least 3"):
        estimate(TASK, ["majority"], embedder="hash:8", rows=2)


def test_steps_are_those_of_the_training():
    found = estimate(replace(TASK, test=TEST[:6]), ["lora"], model="tiny", embedder="hash:8", sizes=[20, None])
    small, whole = found.strategies
    # 15 epochs of 2 and of 4 batches
    assert (small.steps, whole.steps) == (30, 60)
    assert 0 < small.fit_seconds < whole.fit_seconds


@pytest.mark.parametrize("pool", [5, 60])
def test_training_is_tried_once_for_a_few_steps(pool, monkeypatch):
    trained = []
    whole = training.finetune

    def finetune(base, rows, **settings):
        if not (settings["output_dir"] / "model").exists():
            trained.append((len(rows), settings["epochs"]))
        return whole(base, rows, **settings)

    monkeypatch.setattr(training, "finetune", finetune)
    task = replace(TASK, examples=POOL[:pool], test=TEST[:4])
    with planned(task, ["lora"], model="tiny", embedder="hash:8", sizes=[None], seeds=[0], budget=None, out=None,
                 options=CompareOptions()) as plan:  # fmt: skip
        found = measure(Tuning(), plan.jobs[0].setting, 4)
    assert trained == ([(5, 3)] if pool == 5 else [(48, 1)])  # three steps, however small the pool is
    assert found.many.steps == 3
    assert (found.few.rows, found.many.rows) == (2, 4)
    assert found.many.step.wall > 0


@pytest.mark.parametrize(("trials", "tried"), [(0, 0), (2, 3 * 15 + 3 * 30)])
def test_steps_of_trials_are_added(trials, tried):
    assert Tuning().training_steps(60, trials) == 60 + tried
    assert Tuning().fitting_calls(60, trials) == trials * 12
    assert Tuning(pretrain=True).training_steps(60, trials) == 2 * (60 + tried)


def test_full_training_without_a_language_model_is_that_of_the_encoder():
    assert Tuning("full", epochs=3).chosen(None) == EncoderTuning("full", epochs=3)
    assert EncoderTuning("full").training_steps(100, 0) == 4 * 4
    assert EncoderTuning("classifier-head").training_steps(100, 0) == 0


def sample(**changed):
    settings = {
        "pool": 100, "rows": 8, "fit": Seconds(), "embedding": Seconds(), "steps": 0, "step": Seconds(),
        "predict": Seconds(), "rest": Seconds(), "embeds": (False, False), "answered": None, "call": Seconds(),
        "outcome": None,
    }  # fmt: skip
    return try_on.__globals__["Sample"](**{**settings, **changed})


def test_prediction_has_a_constant_part():
    few, many = sample(rows=2, predict=Seconds(3.0, 2.4)), sample(predict=Seconds(6.0, 3.6))
    found = Measured(load_strategy("zero-shot"), few, many, None).predict(100)
    assert (found.wall, found.cpu) == pytest.approx((2.0 + 50.0, 2.0 + 20.0))


def test_fitting_grows_with_the_measured_exponent():
    @dataclass
    class Setting:
        pool: range
        trials: int = 0

    few = sample(rows=2)
    many = sample(fit=Seconds(2.0, 1.0), embedding=Seconds(0.5, 0.5))
    smaller = sample(rows=2, pool=50, fit=Seconds(1.0, 1.0))  # proportional to the pool
    found = Measured(load_strategy("tfidf"), few, many, smaller).fit(Setting(range(1000)))
    assert (found.wall, found.cpu) == pytest.approx((20.0 + 5.0, 10.0 + 5.0))


@pytest.fixture
def data(tmp_path):
    rows = [(row, "train") for row in POOL] + [(row, "test") for row in TEST]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"input": r.input, "output": r.output, "split": s}) + "\n" for r, s in rows))
    return path


def test_the_command_prints_the_estimate_and_leaves_nothing_behind(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    quick = ("compare", "--data", data, "--strategies", "majority,vote:bm25", "--embedder", "hash:8", "--estimate")
    done = run(*quick, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "vote:bm25" in done.stdout
    assert "total" in done.stdout
    assert run(*quick).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "scratch"]
    assert list(scratch.iterdir()) == []
    found = json.loads(run(*quick, "--json").stdout)
    assert [(each["strategy"], each["size"]) for each in found["strategies"][-2:]] == [
        ("majority", 60), ("vote:bm25", 60),
    ]  # fmt: skip
    assert found["total"]["calls"] == 0


def test_the_command_names_what_failed(data):
    done = run("compare", "--data", data, "--strategies", "majority,few-shot:bm25", "--embedder", "hash:8", "--model",
               "tiny", "--budget-calls", "1", "--estimate")  # fmt: skip
    assert done.returncode == 1
    assert "failed: few-shot:bm25, pool 2, 20, 60: " in done.stderr
    assert "the budget is 1" in done.stderr


def test_outcomes_of_strategies_without_calls_need_no_model():
    class Constant:
        name = "constant"

        def run(self, setting):
            return Outcome(["vent"] * len(setting.task.test), seconds=0.01 * len(setting.task.test), cost=0.0)

    found = estimate(TASK, [Constant()], embedder="hash:8").total
    assert found.seconds == pytest.approx(0.01 * len(TEST), rel=0.5)
