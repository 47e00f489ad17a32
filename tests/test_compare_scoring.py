"""Classes chosen by their likelihood."""

import math

import numpy as np
import pytest

from ragkit import Example, ScriptedModel, Task, compare, load_model
from ragkit.errors import InvalidInputError
from ragkit.models.base import ModelBase
from ragkit.protocols import Capabilities
from ragkit_pipelines.compare.scoring import Scoring
from ragkit_pipelines.compare.strategies import load_strategy

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

    def score(self, prompts, choices):
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
    assert prompts[0] == "Input: my card is lost\nOutput:"
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
        compare(TASK, ["score"], out=tmp_path / "a")
    with pytest.raises(InvalidInputError, match="needs probabilities"):
        compare(TASK, ["score:bm25"], model=ScriptedModel(["bank"]), out=tmp_path / "b")
    free = [Example(f"text {n}", f"answer {n}") for n in range(6)]
    task = Task(name="t", instruction="", examples=free, test=TEST[:1])
    with pytest.raises(InvalidInputError, match="6 examples have 6 outputs"):
        compare(task, ["score"], model=Likes(), out=tmp_path / "c")


@pytest.mark.parametrize("name", ["score", "score:bm25", "score:jaccard@3"])
def test_names_load_what_they_name(name):
    loaded = load_strategy(name)
    assert isinstance(loaded, Scoring)
    assert loaded.name == name
