"""Training on a teacher's answers instead of the gold answers, and a report of what the student copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import ClassVar

from ragkit.errors import InvalidInputError
from ragkit.finetuning._imitation import imitate
from ragkit.metrics._wording import token_f1
from ragkit.models import load_model
from ragkit.protocols import LanguageModel
from ragkit.tasks import Task
from ragkit_pipelines.compare.private import file_name
from ragkit_pipelines.compare.strategies.base import Outcome, Setting, prompted
from ragkit_pipelines.compare.strategies.training import Tuning
from ragkit_pipelines.few_shot import FewShot
from ragkit_selectors.baselines import FixedSelector


@dataclass(frozen=True)
class Imitating:
    """Fine-tune the language model on a teacher's answers to the inputs of the pool.

    The teacher also answers the test rows, and the note compares both, because a student may copy the style of its
    teacher without its abilities (Gudibande et al., "The False Promise of Imitating Proprietary LLMs", 2023).

    Attributes:
        teacher: A model or its spec.
        method: Training method of the student; see `Tuning`.
        k: Number of in-context examples for the teacher, the same for all inputs.
        epochs: See `Tuning`.
        max_tokens: Maximum number of tokens of an answer; fits the longest output of the pool if None.
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

    def check(self, _task: Task, _model: LanguageModel | None) -> None:
        """Raise an error if the teacher cannot be loaded."""
        load_model(self.teacher)

    def shortened(self, steps: int, rows: int) -> Imitating:
        """Return the same strategy with few epochs."""
        return replace(self, epochs=Tuning(self.method).shortened(steps, self._taught(rows)).epochs)

    def training_steps(self, rows: int, trials: int) -> int:
        """Return the number of training steps of the student."""
        return Tuning(self.method, epochs=self.epochs).training_steps(self._taught(rows), trials)

    def fitting_calls(self, rows: int, trials: int) -> int:
        """Return the number of calls of the teacher, and of the student in its trials."""
        taught = self._taught(rows)
        return taught + Tuning(self.method, epochs=self.epochs).fitting_calls(taught, trials)

    def _taught(self, rows: int) -> int:
        return rows - self.k if rows > self.k else rows

    def run(self, setting: Setting) -> Outcome:
        """Train the student on the teacher's answers to the pool, and prompt both; the note compares them."""
        most = setting.answer_tokens(self.max_tokens)
        teacher = setting.cached(load_model(self.teacher))
        shown = setting.pool[: setting.within_pool(self.k, self.name)]
        rest = setting.pool[len(shown) :] or shown
        taught = imitate(
            teacher, [row.input for row in rest], template=setting.task.template, examples=shown, max_tokens=most
        )
        if not taught.examples:
            raise InvalidInputError(
                f"no answer of the teacher can be used for training; the first reason: {taught.dropped[0][1]}"
            )
        student = Tuning(self.method, epochs=self.epochs, max_tokens=most).run(
            # A separate folder, because the same method may also train a model on the gold answers.
            replace(setting, pool=taught.examples, folder=setting.folder / file_name(self.name.replace("/", "-")))
        )
        pipeline = FewShot.from_task(
            setting.task, teacher, FixedSelector(shown), k=len(shown), max_tokens=most, order="similar_first"
        )
        teacher_answers = prompted(pipeline, setting).answers
        lessons = Outcome(
            [],
            prompt_tokens=taught.usage.prompt_tokens,
            completion_tokens=taught.usage.completion_tokens,
            seconds=taught.seconds,
            cost=taught.cost,
        )
        counted = student.after(lessons)
        return replace(
            counted,
            trials=student.trials,
            labels=len(shown),
            note=_comparison(setting, student.answers, teacher_answers),
        )


def _comparison(setting: Setting, student: Sequence[str], teacher: Sequence[str]) -> str:
    """Compare the student with the teacher: scores, wording and copied mistakes."""
    style = mean(map(token_f1, student, teacher))
    wrong = [row for row, score in enumerate(setting.task.score_all(teacher)) if score < 1]
    copied = sum(student[row].split() == teacher[row].split() for row in wrong)
    scores = [setting.overall_score(answers) for answers in (student, teacher)]
    return (
        f"score {scores[0]:.3f} (teacher: {scores[1]:.3f}); similarity to the teacher's wording "
        f"{style:.3f} (token F1); {copied} of the teacher's {len(wrong)} wrong answers copied"
    )
