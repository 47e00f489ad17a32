"""Strategies: their names, what they ask, what tuning counts, and what a failing one leaves alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

import pytest

from ragkit import Example, FewShot, JaccardSelector, ScriptedModel, Task, compare
from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.tiny.domains import HOME, task_of
from ragkit_pipelines.compare import CompareOptions
from ragkit_pipelines.compare.strategies.base import Outcome, Setting
from ragkit_pipelines.compare.strategies.imitation import Imitating
from ragkit_pipelines.compare.strategies.named import Prompting, Vote, load_strategy
from ragkit_pipelines.compare.strategies.prompt_search import OptimisedPrompt
from ragkit_pipelines.compare.strategies.training import Tuning, _training_rows

POOL = [Example(f"say {word} {n}", word) for n in range(10) for word in ("ping", "pong")]
TEST = [Example(f"now {word}", word) for word in ("ping", "pong", "ping")]


def task(**changes):
    return Task(**({"instruction": "Echo.", "examples": POOL, "test": TEST} | changes))


def setting(tmp_path, model, **changes):
    facts = {"task": task(), "pool": POOL, "seed": 0, "model": model, "embedder": None, "folder": tmp_path / "models",
             "answers": tmp_path / "answers.sqlite"}  # fmt: skip
    return Setting(**(facts | changes))


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("few-shot:bm25", Prompting("bm25")),
        ("few-shot:bm25@16", Prompting("bm25", k=16)),
        ("few-shot:bm25 | mmr:0.5@3", Prompting("bm25 | mmr:0.5", k=3)),
        ("zero-shot*5", Prompting(samples=5)),
        ("few-shot:bm25@3*5", Prompting("bm25", k=3, samples=5)),
        ("few-shot:bm25 | mmr:0.5*5", Prompting("bm25 | mmr:0.5", samples=5)),
        ("vote:jaccard@5", Vote("jaccard", k=5)),
        ("copy:jaccard", Vote("jaccard", k=1)),
        ("lora+few-shot:bm25@4", Tuning("lora", selector="bm25")),
        ("lora+few-shot:bm25@2", Tuning("lora", selector="bm25", k=2)),
        ("last-layers", Tuning("last-layers")),
        ("prompt-tuning", Tuning("prompt-tuning")),
        ("text+lora", Tuning("lora", pretrain=True)),
        ("imitate:replay:a.jsonl", Imitating("replay:a.jsonl")),
        ("optimised-prompt", OptimisedPrompt()),
    ],
)
def test_names_stand_for_strategies(name, strategy):
    assert load_strategy(name) == strategy
    assert load_strategy(strategy).name == name


def test_tfidf_classifies_scripts_without_spaces(tmp_path):
    pool = [
        Example(f"{text}第{n}次", label) for n in range(10) for text, label in (("红色的灯", "灯"), ("蓝色的船", "船"))
    ]
    tested = task(examples=pool, test=[Example("那盏红色的灯呢", "灯"), Example("这条蓝色的船", "船")])
    outcome = load_strategy("tfidf").run(setting(tmp_path, None, task=tested, pool=pool))
    assert outcome.answers == ["灯", "船"]
    assert min(outcome.confidence) > 0.8


@pytest.mark.parametrize(
    "name",
    [
        "few-shot:bm25@many",
        "few-shot:@8",
        "lora+few-shot",
        "imitate",
        "imitate:",
        "few-shot:bm25@",
        "zero-shot*many",
        "zero-shot@2",
        "vote:bm25*3",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(UnknownSpecError):
        load_strategy(name)


@pytest.mark.parametrize("name", ["few-shot:bm25@0", "copy:bm25@3", "zero-shot*0"])
def test_numbers_that_make_no_sense_are_refused(name):
    with pytest.raises(InvalidInputError, match=r"number of (examples|samples)"):
        load_strategy(name)


def test_k_examples_are_shown(tmp_path):
    model = ScriptedModel(lambda prompt: " ping")
    load_strategy("few-shot:bm25@3").run(setting(tmp_path, model))
    assert {prompt.count("Output:") for prompt in model.asked} == {4}


def test_answers_have_room_for_the_longest_output(tmp_path):
    long = "word " * 300
    pool = [Example("write", long.strip()), Example("say", "no")]
    model = ScriptedModel(lambda prompt: " " + long)
    asked = setting(tmp_path, model, pool=pool, task=task(test=[Example("write it", long)]))
    outcome = Prompting("bm25", k=2).run(asked)
    assert outcome.answers == [long.strip()]
    assert setting(tmp_path, model).answer_tokens(None) == 48
    assert setting(tmp_path, model).answer_tokens(7) == 7


@dataclass(frozen=True)
class Crashes:
    name: str = "crashes"

    def run(self, setting: Setting) -> Outcome:
        return Outcome([["a"][len(self.name)]])


@pytest.mark.parametrize(
    ("strategy", "said"),
    [(Crashes(), r"IndexError: list index out of range \(test_strategies.py, line \d+\)"),
     (Prompting("bm25"), "ModelError: the script has 1 answers")],
)  # fmt: skip
def test_whatever_an_arm_raises_the_others_finish(tmp_path, strategy, said):
    result = compare(
        task(), ["majority", strategy, "copy:bm25"], model=ScriptedModel(["x"]), embedder="hash:8", out=tmp_path
    )
    errors = [row.error for row in result.results.rows]
    assert errors[0] is errors[2] is None
    assert re.match(said, errors[1])
    assert result.results.rows[2].correct == 3


def test_a_metric_that_raises_is_the_error_of_its_arm():
    def strict(answer: str, expected: str) -> float:
        return 1 / (answer == expected)

    result = compare(task(metric=strict), ["majority", "copy:bm25"], model=ScriptedModel([]), embedder="hash:8")
    assert "MetricError: the metric" in result.results.rows[0].error
    assert "test[1] ('now pong'): ZeroDivisionError" in result.results.rows[0].error
    assert result.results.rows[1].error is None


def picky(prompt: str) -> str:
    """Right only where the instruction is the magic one and two examples are shown."""
    good = prompt.startswith("Magic") and prompt.count("Output:") == 3
    return " " + (re.findall(r"(ping|pong)", prompt)[-1] if good else "?")


def test_the_search_finds_the_prompt_and_counts_itself(tmp_path):
    search = OptimisedPrompt(selectors=("bm25", "set"), sizes=(4, 2), instructions=("Magic.",), trials=16)
    model = ScriptedModel(picky)
    outcome = search.run(setting(tmp_path, model))
    assert outcome.answers == ["ping", "pong", "ping"]
    assert outcome.trials == 16
    assert "@2" in outcome.note
    assert "'Magic.': 1.000 on 4 held-out rows (default prompt: 0.000)" in outcome.note
    asked = [model.count_tokens(prompt) for prompt in model.asked]
    # Equal prompts of two candidates are answered once and counted twice: each would have been paid for.
    assert outcome.fit_tokens + outcome.prompt_tokens >= sum(asked)
    assert outcome.prompt_tokens == sum(asked[-3:])
    assert len(search.candidates(setting(tmp_path, model, trials=5))) == 5
    assert str(search.candidates(setting(tmp_path, model))[0]) == "bm25@4, similar last, instruction 'Echo.'"
    assert len({str(c) + str(c.draw) for c in search.candidates(setting(tmp_path, model))}) == 16


def test_no_test_row_is_seen_while_tuning(tmp_path):
    model = ScriptedModel(picky)
    OptimisedPrompt(trials=3, selectors=("bm25",), sizes=(2,)).run(setting(tmp_path, model))
    tuning = model.asked[:-3]
    assert tuning
    assert not any("now" in prompt for prompt in tuning)
    learn, dev = setting(tmp_path, model).held_out("x")
    assert {row.text() for row in learn} | {row.text() for row in dev} == {row.text() for row in POOL}
    assert (len(learn), len(dev)) == (16, 4)
    queries = {prompt.rsplit("Input: ", 1)[1].split("\n")[0] for prompt in tuning}
    shown = {line for prompt in tuning for line in re.findall(r"Input: (.*)", prompt)[:-1]}
    assert queries == {row.text() for row in dev}
    assert queries.isdisjoint(shown)


def test_a_pool_too_small_to_tune_is_said():
    small = task(examples=POOL[:9])
    row = compare(small, ["optimised-prompt"], model=ScriptedModel(picky), embedder="hash:8").results.rows[0]
    assert "needs at least 10 examples, got 9" in row.error


@pytest.fixture(scope="module")
def home():
    return task_of(HOME, Random(5), pool=40, test=10)


def test_every_way_of_training_runs_and_counts(tmp_path, tiny, home):
    names = [
        Tuning("last-layers", epochs=1),
        Tuning("prompt-tuning", epochs=1),
        Tuning("lora", pretrain=True, epochs=1),
    ]
    rows = compare(home, names, model=tiny, embedder="hash:8", out=tmp_path).results.rows
    assert [row.error for row in rows] == [None] * 3
    assert all(row.fit_tokens > 1000 for row in rows)
    assert rows[2].fit_tokens > rows[0].fit_tokens  # the inputs were trained on before


def test_a_row_is_never_shown_itself_in_training(tmp_path, tiny, home):
    given = setting(tmp_path, tiny, task=home, pool=home.examples)
    pipeline = FewShot.from_task(home, tiny, JaccardSelector(home.examples), k=2)
    rows, template = _training_rows(pipeline, given)
    for row, made in zip(home.examples, rows, strict=True):
        assert made.output == row.output
        assert made.input.endswith(home.template.render_query(row.input))
        assert made.input.count(home.template.render_query(row.input)) == 1
        assert made.input.count("Output:") == 3
        assert made.input.startswith(home.template.head)
    assert template.prompt([], rows[0].input).text == rows[0].input


@pytest.mark.slow
def test_lora_with_examples_learns(tmp_path, tiny, home):
    row = compare(home, ["lora+few-shot:jaccard@2"], model=tiny, embedder="hash:8", out=tmp_path).results.rows[0]
    assert row.error is None
    assert row.score >= 0.6


def test_rates_and_epochs_are_tried_within_the_trials(tmp_path, tiny, home):
    tuning = Tuning("lora", epochs=1)
    row = compare(
        home, [tuning], model=tiny, embedder="hash:8", out=tmp_path, options=CompareOptions(trials=3)
    ).results.rows[0]
    assert (row.error, row.trials) == (None, 3)
    assert re.match(r"learning rate [\d.e-]+, [\d.]+ epochs: [\d.]+ on 8 held-out rows", row.note)
    plain = compare(home, [tuning], model=tiny, embedder="hash:8", out=tmp_path).results.rows[0]
    assert row.fit_tokens > 2 * plain.fit_tokens
    assert (plain.trials, plain.note) == (0, "")


def test_a_student_copies_its_teacher_mistakes_included(tmp_path, tiny, home):
    gold = {row.text(): row.output for row in (*home.examples, *home.test)}

    def teach(prompt: str) -> str:
        asked = prompt.rsplit("Input: ", 1)[1].split("\n")[0]
        return " " + ("wrong" if asked == home.test[0].text() else gold[asked])

    teacher = ScriptedModel(teach, name="teacher")
    row = compare(home, [Imitating(teacher, epochs=1)], model=tiny, embedder="hash:8", out=tmp_path).results.rows[0]
    assert (row.error, row.strategy) == (None, "imitate:teacher")
    assert "(teacher: 0.900)" in row.note
    assert "of the teacher's 1 wrong answers copied" in row.note
    assert row.fit_tokens > sum(map(teacher.count_tokens, teacher.asked[:36]))


def test_a_student_and_a_model_trained_on_gold_answers_do_not_share_a_folder(tmp_path, tiny, home):
    arms = [Tuning("lora", epochs=1), Imitating(ScriptedModel(lambda _: " on", name="a/b"), epochs=1)]
    rows = compare(home, arms, model=tiny, embedder="hash:8", out=tmp_path).results.rows
    assert [(row.strategy, row.error) for row in rows] == [("lora", None), ("imitate:a/b", None)]


def test_all_samples_are_paid_for_and_their_agreement_is_the_confidence(tmp_path):
    rounds = [[" ping", " pong", " ping"], [" pong", " pong", " pong"], [" ping", " pong", " ping"]]
    answers = [text for each in rounds for text in each]  # one answer per row in each round
    single = Prompting().run(setting(tmp_path / "one", ScriptedModel(answers)))
    outcome = Prompting(samples=3).run(setting(tmp_path, ScriptedModel(answers)))
    assert outcome.answers == ["ping", "pong", "ping"]
    assert outcome.confidence == pytest.approx([2 / 3, 1, 2 / 3])
    assert (outcome.samples, len(outcome.prompts), outcome.cost) == (3, 3, 0.0)
    assert outcome.prompt_tokens == 3 * single.prompt_tokens
    assert outcome.completion_tokens == sum(ScriptedModel([]).count_tokens(text) for text in answers)
    assert list(single.confidence) == []


def test_an_unknown_strategy_is_named_with_similar_ones_only():
    with pytest.raises(UnknownSpecError) as caught:
        load_strategy("vote:bm52")
    assert caught.value.suggestions[0] == "vote:bm25"
    assert "Known" not in str(caught.value)
    assert "`ragkit compare --strategies list`" in str(caught.value)
    with pytest.raises(UnknownSpecError, match=r"`\*` must be followed by a number of samples") as caught:
        load_strategy("few-shot:bm25@4*0")
    assert "`@` must" not in str(caught.value)
    with pytest.raises(UnknownSpecError, match=r"Known: channel.*zero-shot"):
        load_strategy("xqzw")
