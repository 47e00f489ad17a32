"""Classes chosen by their likelihood."""

import math

import numpy as np
import pytest

from ragkit import Example, ScriptedModel, Task, compare, load_model
from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.models._base import ModelBase
from ragkit.protocols import Capabilities
from ragkit_pipelines.compare.strategies.base import check_strategies
from ragkit_pipelines.compare.strategies.named import load_strategy
from ragkit_pipelines.compare.strategies.scoring import Scoring

POOL = [Example(f"{word} number {n}", label) for word, label in (("card", "bank"), ("cake", "food")) for n in range(6)]
TEST = [Example("my card is lost", "bank"), Example("a cake please", "food"), Example("card and card", "bank")]
TASK = Task(name="kinds", instruction="", examples=POOL, test=TEST, metric="accuracy", labels=("bank", "food"))


class Likes(ModelBase):
    """Holds ``bank`` three times as likely as ``food`` where it is asked about a card, else the reverse."""

    name = "likes"
    fingerprint = "likes"
    capabilities = Capabilities(score=True)

    def __init__(self) -> None:
        self.asked = []

    def _complete(self, prompts, sampling):
        raise AssertionError("nothing is to be written")

    def score(self, prompts, choices, *, end_of_turn=False):
        assert not end_of_turn  # the separator ends an answer of the text form
        self.asked.append(([prompt.text for prompt in prompts], list(choices)))
        about = ["card" in prompt.text.rsplit("Input:", 1)[1] for prompt in prompts]
        return np.array(
            [[math.log(0.3 if ("bank" in choice) == card else 0.1) for choice in choices] for card in about]
        )


def test_the_likeliest_class_is_the_answer_and_its_share_the_confidence(tmp_path):
    model = Likes()
    result = compare(TASK, ["score", "score:jaccard@2"], model=model, out=tmp_path)
    assert [(row.strategy, row.score) for row in result.results.rows] == [("score", 1.0), ("score:jaccard@2", 1.0)]
    (prompts, choices), (shown, _) = model.asked
    assert choices == [" bank\n\n", " food\n\n"]
    assert prompts[0] == "Answer with one of: bank, food.\n\nInput: my card is lost\nOutput:"
    assert [text.count("Input:") for text in shown] == [3, 3, 3]
    assert result.items.answers[0].confidence == pytest.approx([0.75] * 3)


def test_nothing_is_scored_twice(tmp_path):
    compare(TASK, ["score"], model=Likes(), out=tmp_path)
    again = Likes()
    compare(TASK, ["score", "score:bm25"], model=again, out=tmp_path)
    assert len(again.asked) == 1


def test_tiny_classifies_by_the_scores_it_gives(tmp_path):
    """Beside scores that are taken one by one from the bare model."""
    pool = [Example(f"{word} {n}", label) for word, label in (("dim", "fade"), ("open", "vent")) for n in range(4)]
    test = [Example("dim 7", "fade"), Example("open 9", "vent")]
    task = Task(name="calls", instruction="", examples=pool, test=test, metric="accuracy")
    result = compare(task, ["score:jaccard@4"], model="tiny", out=tmp_path)
    tiny = load_model("tiny")
    own = result.items.answers[0]
    for prompt, answer, confidence in zip(own.prompts, own.answers, own.confidence, strict=True):
        alone = {label: math.exp(tiny.score([prompt], [f" {label}\n\n"])[0, 0]) for label in ("fade", "vent")}
        assert answer == max(alone, key=alone.get)
        assert confidence == pytest.approx(alone[answer] / sum(alone.values()), rel=1e-4)
    assert result.results.rows[0].score == 1.0


def test_who_cannot_is_told_before_anything_is_run(tmp_path):
    with pytest.raises(InvalidInputError, match="needs a language model"):
        check_strategies([Scoring()], TASK, None)
    with pytest.raises(InvalidInputError, match="needs log-probabilities"):
        compare(TASK, ["score:bm25"], model=ScriptedModel(["bank"]), out=tmp_path / "b")
    free = [Example(f"text {n}", f"answer {n}") for n in range(6)]
    task = Task(name="t", instruction="", examples=free, test=TEST[:1])
    with pytest.raises(InvalidInputError, match="6 examples have 6 different outputs"):
        compare(task, ["score"], model=Likes(), out=tmp_path / "c")


CALLS = Task(
    name="calls",
    instruction="",
    examples=[Example(f"{word} {n}", label) for word, label in (("dim", "fade"), ("open", "vent")) for n in range(4)],
    test=[Example("dim 7", "fade"), Example("open 9", "vent"), Example("dim it 1", "fade")],
    metric="accuracy",
)
LABELS = ("fade", "vent")
SHOWN = "Input: dim 1\nOutput: fade\n\nInput: dim 0\nOutput: fade\n\n"  # the most similar last


def softmax(scores):
    shares = np.exp(np.asarray(scores))
    return shares / shares.sum(axis=-1, keepdims=True)


def likelihoods(prompts):
    """The bare model's log-likelihoods, each taken alone."""
    tiny = load_model("tiny")
    return np.array([[tiny.score([prompt], [f" {label}\n\n"])[0, 0] for label in LABELS] for prompt in prompts])


def asked(text):
    return f"{SHOWN}Input: {text}\nOutput:"


@pytest.mark.parametrize("calibration", ["contextual", "batch", "pmi"])
def test_calibrated_scores_follow_their_papers(tmp_path, calibration):
    raw = likelihoods([asked(row.text()) for row in CALLS.test])
    if calibration == "contextual":  # Zhao et al. 2021: diag(p_cf)^-1 p, p_cf the mean over content-free inputs
        empty = np.mean([softmax(likelihoods([asked(text)]))[0] for text in ("N/A", "[MASK]", "none")], axis=0)
        expected = softmax(raw) / empty
    elif calibration == "batch":  # Zhou et al. 2024: the contextual prior is the mean over the batch
        expected = np.exp(raw) / softmax(raw).mean(axis=0)
    else:  # Holtzman et al. 2021: p(y | x) / p(y | domain premise)
        expected = np.exp(raw - likelihoods(["Input: N/A\nOutput:"]))
    expected = expected / expected.sum(axis=1, keepdims=True)
    result = compare(CALLS, [f"score:fixed@2+{calibration}"], model="tiny", embedder="hash:8", out=tmp_path)
    own = result.items.answers[0]
    assert own.answers == [LABELS[place] for place in expected.argmax(axis=1)]
    assert own.confidence == pytest.approx(expected.max(axis=1), rel=1e-3)


def test_the_channel_scores_the_input_after_each_class(tmp_path):
    tiny = load_model("tiny")
    before = "Output: fade\nInput: dim 1\n\nOutput: fade\nInput: dim 0\n\n"
    expected = softmax([
        [tiny.score([f"{before}Output: {label}\nInput:"], [f" {row.text()}\n\n"])[0, 0] for label in LABELS]
        for row in CALLS.test
    ])  # fmt: skip
    result = compare(CALLS, ["channel:fixed@2"], model="tiny", embedder="hash:8", out=tmp_path)
    own = result.items.answers[0]
    assert own.answers == [LABELS[place] for place in expected.argmax(axis=1)]
    assert own.confidence == pytest.approx(expected.max(axis=1), rel=1e-3)


@pytest.mark.parametrize(
    "name", ["score+other", "score:bm25+", "channel:nothing", "score:bm25@0+batch", "scores", "channel:bm25+pmi+batch"]
)
def test_names_of_no_scoring_strategy(name):
    with pytest.raises(UnknownSpecError):
        load_strategy(name)


@pytest.mark.parametrize(
    "name", ["score", "score:bm25", "score:jaccard@3", "score+pmi", "channel", "channel:bm25 | mmr:0.5@3+contextual"]
)
def test_names_load_what_they_name(name):
    loaded = load_strategy(name)
    assert isinstance(loaded, Scoring)
    assert loaded.name == name
