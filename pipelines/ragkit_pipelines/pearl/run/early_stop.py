"""Abandoning an answer that can no longer become a plan: prose without a plan, or a loop."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import cast

from typing_extensions import override

from ragkit.answers import without_reasoning
from ragkit.models._sampling import Sampling
from ragkit.models._wrapper import ModelWrapper
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Completion, Usage

_PROSE = 600  # characters without a line of a plan
_REPEATS = 4  # times that a line or an ending is repeated
_SHORTEST = 40  # characters of repeated text, which shorter words of a list may have by chance
_PLAN_LINE = re.compile(r"^\s*(?:new actions:|\d{1,2}\s*[.):]\s*\w+\s*=)", re.IGNORECASE | re.MULTILINE)
_NUMBER = re.compile(r"^\s*\d+\s*[.):]\s*")


def no_plan_in(answer: str) -> str:
    """Return why an answer, of which more may follow, will not become a plan; empty if it may."""
    outside = without_reasoning(answer)
    if outside.truncated:  # the model is still reasoning
        return ""
    text = outside.text.strip()
    if len(text) > _PROSE and not _PLAN_LINE.search(text):
        return "the answer is prose; write only the plan, which begins with 'New actions:'"
    lines = Counter(_NUMBER.sub("", line).strip() for line in text.split("\n"))
    looped = next((line for line, count in lines.items() if count >= _REPEATS and len(line) > 3), "")
    if not looped:
        looped = _ending_loop(text)
    return f"the answer repeats {looped[:60]!r}; write each step once" if looped else ""


def _ending_loop(text: str) -> str:
    """Return the piece that a text repeats at its end; empty if it does not."""
    for size in range(1, min(200, len(text) // _REPEATS) + 1):
        piece = text[-size:]
        times = max(_REPEATS, -(-_SHORTEST // size))
        if piece.strip() and text.endswith(piece * times):
            return piece.strip()
    return ""


class EarlyStop(ModelWrapper):
    """A model whose answers are streamed, and abandoned as soon as a function returns a reason to do so."""

    def __init__(self, model: LanguageModel, hopeless: Callable[[str], str]) -> None:
        """Wrap a model."""
        self.model, self._hopeless = model, hopeless

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        return [self._answer(prompt, sampling) for prompt in prompts]

    def _answer(self, prompt: AnyPrompt, sampling: Sampling) -> Completion:
        stream, text, line = self.model.stream(prompt, **sampling.options()), "", 0
        with closing(cast("_Closable", stream)):
            for piece in stream:
                text += piece
                if len(text) - line > 40 and self._hopeless(text):
                    usage = Usage(
                        prompt_tokens=self.max_prompt_tokens(prompt), completion_tokens=self.count_tokens(text)
                    )
                    return Completion(text=text, usage=usage, cost=self.cost_of(usage))
                line = len(text) if len(text) - line > 40 else line
        completion = getattr(stream, "completion", None)
        return completion if isinstance(completion, Completion) else Completion(text=text)


class _Closable(Iterator[str]):
    def close(self) -> None: ...
