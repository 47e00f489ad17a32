"""The 30 recorded questions as a model, and models that are slow, hang, fail or count."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragkit.models._base import ModelBase
from ragkit.models._prompts import prompt_text
from ragkit.models._sampling import Sampling
from ragkit.protocols import AnyPrompt
from ragkit.records import Completion, Usage
from ragkit_pipelines.pearl.plan.builtins import is_local
from ragkit_pipelines.pearl.plan.instructions import subjects_of
from ragkit_pipelines.pearl.plan.library import ActionLibrary
from ragkit_pipelines.pearl.plan.plan import Ctx, Plan, Variable
from ragkit_pipelines.pearl.prompts import step_prompt
from ragkit_pipelines.pearl.run.executor import PlanExecutor

DOCUMENT = 'The document. It holds CTX, $1, </text>, "quotes" and\n1. ans = CONCAT(x) : a line of a plan.\n'

LIBRARY = ActionLibrary.default()


def plan(*steps, new="- None"):
    return Plan.parse("\n".join(["New actions:", new, "", *steps]), LIBRARY)


THREE = plan(
    '1. a = ABOUT(CTX, "a") : Step A',
    '2. b = ABOUT(CTX, "b") : Step B',
    '3. c = COMPARE(CTX, a, "c") : Step C',
    "4. d = CONCAT(b, c) : Step D",
    '5. e = ABOUT(CTX, "e") : Step E',
)


GOOD = 'New actions:\n- None\n\n1. a = ABOUT(CTX, "a") : Step A\n2. b = RELATION(CTX, a, "b") : Step B'


def is_planning(prompt):
    """Whether a prompt requests a plan, possibly a corrected one."""
    return prompt.endswith(("?\n\n", "put right:\n\n"))


def by_step(prompt):
    return next(f"value of {name}" for name in "ABCDE" if f"Purpose: Step {name}\n" in prompt)


def together(count, answer):
    """An answer whose first calls wait until so many are under way."""
    number, barrier = itertools.count(), threading.Barrier(count)

    def waiting(prompt):
        if next(number) < count:
            barrier.wait(30)
        return answer(prompt)

    return waiting


def quick(**settings):
    return PlanExecutor(**{"retry_wait": 0.0, "step_timeout": 60.0, **settings})


@dataclass(frozen=True)
class Recorded:
    question: str
    plan: Plan
    outputs: dict[str, str]
    answer: str
    options: list[str]
    mapped: str

    def answers(self) -> dict[str, str]:
        """What the model wrote, by prompt; each prompt is made from the recorded values."""
        return {
            step_prompt(
                step,
                {
                    step.action.parameter(at): self.outputs[a.name] if isinstance(a, Variable) else a.value
                    for at, a in enumerate(step.arguments)
                    if not isinstance(a, Ctx)
                },
                shared=DOCUMENT if step.reads_document else "",
                subjects=subjects_of(self.plan.steps),
            ).text: self.outputs[step.out]
            for step in self.plan.steps
            if not is_local(step.action)
        }


def recorded(data: Path) -> list[Recorded]:
    library = ActionLibrary.from_text((data / "pearl/actions.txt").read_text())
    rows = [json.loads(line) for line in (data / "pearl/replay.jsonl").read_text().splitlines()]
    return [
        Recorded(
            row["question"] or f"The question {row['qid']}?",
            Plan.parse(row["plan"], library),
            {step["out"]: step["output"] for step in row["steps"]},
            row["open_answer"],
            row["options"],
            row["map_answer"],
        )
        for row in rows
    ]


class CountingModel(ModelBase):
    """Answers by a function, and knows what it was asked, how many calls ran at once and what a cache would hold.

    A prefix counts as cached for a call that begins after another one with the same prefix has ended.
    """

    def __init__(self, answer: Callable[[str], str], *, seconds: float = 0.0, fingerprint: str = "counting") -> None:
        self.answer, self.seconds, self._fingerprint = answer, seconds, fingerprint
        self.asked: list[str] = []
        self.prefixes: list[str] = []
        self.found: list[bool] = []  # whether the prefix was cached, for each call
        self.at_once = self.most_at_once = 0
        self.batches: list[int] = []
        self._warm: set[str] = set()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return "scripted"

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        with self._lock:
            self.batches.append(len(prompts))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            warm = set(self._warm)
        try:
            if self.seconds:
                time.sleep(self.seconds)
            return [self._one(prompt, sampling, warm) for prompt in prompts]
        finally:
            with self._lock:
                self.at_once -= 1

    def _one(self, prompt: AnyPrompt, sampling: Sampling, warm: set[str]) -> Completion:
        text, prefix = prompt_text(prompt), getattr(prompt, "prefix", "")
        with self._lock:
            self.asked.append(text)
            self.prefixes.append(prefix)
            self.found.append(prefix in warm)
        answer = "x" if sampling.max_tokens == 1 else self.answer(text)
        usage = Usage(
            prompt_tokens=self.count_tokens(text),
            cached_tokens=self.count_tokens(prefix) if prefix in warm else 0,
            completion_tokens=self.count_tokens(answer),
        )
        with self._lock:
            self._warm.add(prefix)
        return Completion(text=answer, usage=usage, cost=0.0)
