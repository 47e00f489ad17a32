"""Training on a teacher's answers in place of the gold ones, and what that does and does not copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import ClassVar

from ragkit.errors import InvalidInputError
from ragkit.finetuning.imitation import imitate
from ragkit.metrics.wording import token_f1
from ragkit.models import load_model
from ragkit.protocols import LanguageModel
from ragkit.tasks import Task
from ragkit_pipelines.compare.strategies.base import Outcome, Setting, need_model
from ragkit_pipelines.compare.strategies.training import Tuning
from ragkit_pipelines.few_shot import FewShot
from ragkit_selectors.baselines import FixedSelector


@dataclass(frozen=True)
class Imitating:
    """Fine-tune the language model on a teacher's answers to the inputs of the pool.

    The teacher answers the test rows too, so that the note can tell style from substance: a student may sound like its
    teacher and know no more than before (Gudibande et al., "The False Promise of Imitating Proprietary LLMs", 2023).

    Attributes:
        teacher: A model or its spec.
        method: How the student is trained; see `Tuning`.
        k: Examples of the pool that the teacher is shown, the same ones each time.
        epochs: See `Tuning`.
        max_tokens: Tokens of an answer at the most; room for the longest output of the pool if None.
    """

    needs_model: ClassVar[bool] = True
    teacher: str | LanguageModel
    method: str = "lora"
    k: int = 4
    epochs: float | None = None
    max_tokens: int | None = None

    @property
    def name(self) -> str:
        """``imitate:<teacher>``."""
        return f"imitate:{self.teacher if isinstance(self.teacher, str) else self.teacher.name}"

    def check(self, _task: Task, model: LanguageModel | None) -> None:
        """Refuse to run without a student, or without a teacher that can be loaded."""
        need_model(self.name, model)
        load_model(self.teacher)

    def run(self, setting: Setting) -> Outcome:
        """Ask the teacher, train the student, ask it.

        Returns:
            The outcome; the teacher's answers to the pool count as learning, those to the test rows do not.

        Raises:
            InvalidInputError: If the teacher gave no answer that can be trained on.
        """
        most = setting.answer_tokens(self.max_tokens)
        teacher = setting.kept(load_model(self.teacher))
        shown = setting.pool[: self.k]
        rest = setting.pool[len(shown) :] or shown
        taught = imitate(
            teacher, [row.input for row in rest], template=setting.task.template, examples=shown, max_tokens=most
        )
        if not taught.examples:
            raise InvalidInputError(f"the teacher gave no answer to train on; the first: {taught.dropped[0][1]}")
        student = Tuning(self.method, epochs=self.epochs, max_tokens=most).run(
            # In a folder of its own: a model that the same method trained on the gold answers is another one.
            replace(setting, pool=taught.examples, folder=setting.folder / self.name.replace("/", "-"))
        )
        pipeline = FewShot.from_task(
            setting.task, teacher, FixedSelector(shown), k=len(shown), max_tokens=most, order="similar_first"
        )
        model_answers = [answer.text for answer in pipeline.batch([row.input for row in setting.task.test])]
        lessons = Outcome(
            [],
            prompt_tokens=taught.usage.prompt_tokens,
            completion_tokens=taught.usage.completion_tokens,
            seconds=taught.seconds,
            cost=taught.cost,
        )
        counted = student.after(lessons)
        return replace(
            counted, trials=student.trials, labels=len(shown), note=_likeness(setting, student.answers, model_answers)
        )


def _likeness(setting: Setting, student: Sequence[str], teacher: Sequence[str]) -> str:
    """What was copied: the score, the wording, and the mistakes."""
    scores = [setting.task.score_all(answers) for answers in (student, teacher)]
    style = mean(map(token_f1, student, teacher))
    wrong = [place for place, score in enumerate(scores[1]) if score < 1]
    copied = sum(student[place].split() == teacher[place].split() for place in wrong)
    return (
        f"score {mean(scores[0]):.3f}, the teacher's {mean(scores[1]):.3f}; wording {style:.3f} like the teacher's "
        f"(token F1); {copied} of its {len(wrong)} wrong answers copied"
    )
