"""The best epoch by the task's own metric, from answers generated as in use."""

from __future__ import annotations

from random import Random

import pytest

from ragkit import Example, FewShot, finetune
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.records import Chat, Message
from ragkit.tiny.domains import HOME, task_of

TASK = task_of(HOME, Random(3), pool=60, test=12)


def test_the_manifest_holds_the_score_of_the_model_that_is_kept(tmp_path):
    tuned = finetune("tiny", TASK.examples, template=TASK.template, eval=TASK.test, metric="exact_match", epochs=6,
                     output_dir=tmp_path / "run")  # fmt: skip
    pipeline = FewShot(tuned.model, None, template=TASK.template)
    answers = [answer.text for answer in pipeline.batch([row.input for row in TASK.test])]
    kept = sum(TASK.score_all(answers)) / len(answers)
    assert tuned.manifest.eval_loss is None
    assert tuned.manifest.eval_metric == pytest.approx(kept, abs=1.5 / len(answers))  # a near tie may fall otherwise
    assert kept > 0


def test_the_metric_decides_and_patience_ends_training(tmp_path):
    """A metric that is 1 in the first epoch and 0 later; the loss falls all the while."""
    scored: list[str] = []

    def falling(answer: str, expected: str) -> float:
        scored.append(answer)
        return float(len(scored) <= len(TASK.test))

    tuned = finetune("tiny", TASK.examples, template=TASK.template, eval=TASK.test, metric=falling, patience=1,
                     epochs=5, output_dir=tmp_path / "run")  # fmt: skip
    assert tuned.manifest.eval_metric == 1.0
    assert tuned.manifest.epochs == 2
    first = finetune("tiny", TASK.examples, template=TASK.template, eval=TASK.test, metric=lambda *_: 1.0, patience=1,
                     epochs=5, output_dir=tmp_path / "first")  # fmt: skip
    prompts = [TASK.template.prompt([], row.input) for row in TASK.test]
    texts = [[done.text for done in run.model.generate(prompts, max_tokens=12)] for run in (tuned, first)]
    assert texts[0] == texts[1]


def test_answers_are_constrained_to_the_labels_of_the_template(tmp_path):
    rows = [Example(f"say {word} {n}", word) for n in range(8) for word in ("ping", "pong")]
    seen: set[str] = set()

    def note(answer: str, expected: str) -> float:
        seen.add(answer)
        return 0.0

    from ragkit import Template

    finetune("tiny", rows, template=Template(labels=("ping", "pong")), eval=rows[:4], metric=note, epochs=1,
             output_dir=tmp_path / "run")  # fmt: skip
    assert seen <= {"ping", "pong"}
    assert seen


def test_what_a_metric_cannot_be_used_with(tmp_path):
    chat = Chat((Message("user", "a"), Message("assistant", "b")))
    rows = [Example("a", "b")] * 4
    with pytest.raises(InvalidInputError):
        finetune("tiny", rows, metric="accuracy", output_dir=tmp_path / "a")
    with pytest.raises(InvalidInputError):
        finetune("tiny", ["a text"] * 4, objective="text", eval=["b c"], metric="f1", output_dir=tmp_path / "b")
    with pytest.raises(UnsupportedError):
        finetune("tiny", rows, method="prompt-tuning", eval=rows, metric="f1", output_dir=tmp_path / "c")
    with pytest.raises((InvalidInputError, UnsupportedError)):
        finetune("tiny", rows, eval=[chat], metric="f1", output_dir=tmp_path / "d")
