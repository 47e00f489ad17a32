"""The best epoch by the task's own metric, from answers generated as in use."""

from __future__ import annotations

from random import Random

import pytest
import torch

from ragkit import Example, FewShot, Task, finetune
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.finetuning import mix
from ragkit.records import Chat, Message
from ragkit.tiny.domains import HOME, task_of

TASK = task_of(HOME, Random(3), pool=60, test=12)


def test_the_manifest_holds_the_score_of_the_model_that_is_kept(tmp_path):
    tuned = finetune("tiny", TASK.examples, template=TASK.template, eval=TASK.test, metric="exact_match", epochs=6,
                     output_dir=tmp_path / "run")  # fmt: skip
    pipeline = FewShot(tuned.model, None, template=TASK.template)
    answers = [answer.text for answer in pipeline.batch([row.input for row in TASK.test])]
    kept = sum(TASK.score_all(answers)) / len(answers)
    found = tuned.manifest.evaluations
    assert [evaluation.epoch for evaluation in found] == [1, 2, 3, 4, 5, 6]
    best = max(found, key=lambda evaluation: (evaluation.metric, -evaluation.loss))
    assert (tuned.manifest.eval_metric, tuned.manifest.eval_loss) == (best.metric, best.loss)
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
    assert [evaluation.metric for evaluation in tuned.manifest.evaluations] == [1.0, 0.0]
    losses = [evaluation.loss for evaluation in tuned.manifest.evaluations]
    assert losses[1] < losses[0] == tuned.manifest.eval_loss
    kept = loss_of(tuned.model, TASK.test)  # that of the first epoch, up to the averaging over batches
    assert abs(kept - losses[0]) < abs(kept - losses[1]) / 4


def loss_of(model, rows):
    """The mean loss of the answers' tokens, one row at a time."""
    total, count = 0.0, 0
    for row in rows:
        head = model.encode_prompt(TASK.template.for_model(model).prompt([], row.input))
        tail = [*model.encode_text(TASK.template.render_answer(row.output)), model.tokenizer.eos_token_id]
        with torch.inference_mode():
            logits = model.module(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1]
        total += float(torch.nn.functional.cross_entropy(logits, torch.tensor(tail), reduction="sum"))
        count += len(tail)
    return total / count


def test_the_loss_decides_between_epochs_with_the_same_score(tmp_path):
    tuned = finetune("tiny", TASK.examples, template=TASK.template, eval=TASK.test, metric=lambda *_: 0.5, epochs=3,
                     output_dir=tmp_path / "run")  # fmt: skip
    assert [evaluation.metric for evaluation in tuned.manifest.evaluations] == [0.5] * 3
    assert tuned.manifest.eval_loss == min(evaluation.loss for evaluation in tuned.manifest.evaluations)
    assert tuned.manifest.eval_loss < tuned.manifest.evaluations[0].loss
    # An equal score is no improvement, whatever the loss is.
    patient = finetune("tiny", TASK.examples, template=TASK.template, eval=TASK.test, metric=lambda *_: 0.5, epochs=5,
                       patience=2, output_dir=tmp_path / "patient")  # fmt: skip
    assert patient.manifest.epochs == 3


def test_a_soft_prompt_answers_as_in_use_and_is_trained_further(tmp_path):
    settings = {"method": "prompt-tuning", "eval": TASK.test, "template": TASK.template, "epochs": 3}
    scored: list[list[str]] = [[]]

    def note(answer: str, expected: str) -> float:
        scored[-1].append(answer)
        if len(scored[-1]) == len(TASK.test):
            scored.append([])
        return float(len(scored) > 3)

    tuned = finetune("tiny", TASK.examples, metric=note, output_dir=tmp_path / "run", **settings)
    pipeline = FewShot(tuned.model, None, template=TASK.template)
    assert [answer.text for answer in pipeline.batch([row.input for row in TASK.test])] == scored[2]
    assert tuned.manifest.eval_metric > 0
    plain = finetune("tiny", TASK.examples, output_dir=tmp_path / "plain", **settings)
    losses = [[evaluation.loss for evaluation in run.manifest.evaluations] for run in (tuned, plain)]
    assert losses[0] == losses[1]  # answering in between changes nothing


def test_rows_of_a_mixture_are_asked_in_their_own_template(tmp_path):
    """The answers to the second task are constrained to its labels, those to the first are not."""
    colours = Task(
        "Name the colour.", [Example("sky", "blue"), Example("grass", "green")], [], labels=("blue", "green")
    )
    mixture = mix({"home": TASK.examples[:4], "colours": colours}, size=8)
    answers: dict[str, set[str]] = {}

    def note(answer: str, expected: str) -> float:
        answers.setdefault("colours" if expected in colours.labels else "home", set()).add(answer)
        return 0.0

    finetune("tiny", mixture, eval=mixture, metric=note, epochs=1, output_dir=tmp_path / "run")
    assert answers["colours"] <= {"blue", "green"}
    assert not answers["home"] & {"blue", "green"}


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
    with pytest.raises((InvalidInputError, UnsupportedError)):
        finetune("tiny", rows, eval=[chat], metric="f1", output_dir=tmp_path / "d")
