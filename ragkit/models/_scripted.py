"""A model with scripted answers, for tests, demonstrations and pipelines without a real model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from threading import Lock

from typing_extensions import override

from ragkit._text import refuse_bare_string
from ragkit.errors import ModelError
from ragkit.models._base import ModelBase
from ragkit.models._prompts import cut_at_stop, prompt_text
from ragkit.models._sampling import Sampling
from ragkit.protocols import AnyPrompt, Capabilities
from ragkit.records import Completion, Usage


class ScriptedModel(ModelBase):
    """A model that answers from a function, a mapping from prompts to answers, or a list in the order of the calls.

    Tokens are estimated as one per four bytes, and answers are truncated to `max_tokens`. All prompts are recorded in
    `asked`.

    Examples:
        >>> model = ScriptedModel(["Paris", "Rome"])
        >>> model.generate(["Capital of France?", "Capital of Italy?"])[1].text
        'Rome'
    """

    def __init__(
        self, answers: Callable[[str], str] | Mapping[str, str] | Sequence[str], *, name: str = "scripted"
    ) -> None:
        """Create a model from its answers.

        Raises:
            InvalidInputError: If the answers are a single string.
        """
        refuse_bare_string("answers", answers if isinstance(answers, str) else ())
        self.answers = answers
        self.asked: list[str] = []
        self._name = name
        self._lock = Lock()

    @property
    @override
    def fingerprint(self) -> str:
        script = getattr(self.answers, "__qualname__", None) if callable(self.answers) else self.answers
        return f"scripted:{hashlib.sha256(repr(script).encode()).hexdigest()[:16]}"

    @property
    @override
    def capabilities(self) -> Capabilities:
        return Capabilities(schema=True, choices=True)

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        return [self._answer(prompt_text(prompt), sampling) for prompt in prompts]

    def _answer(self, prompt: str, sampling: Sampling) -> Completion:
        with self._lock:
            turn = len(self.asked)
            self.asked.append(prompt)
        if callable(self.answers):
            answer = self.answers(prompt)
        elif isinstance(self.answers, Mapping):
            if prompt not in self.answers:
                raise ModelError(f"the script has no answer for the prompt that ends {prompt[-60:]!r}")
            answer = self.answers[prompt]
        elif turn < len(self.answers):
            answer = self.answers[turn]
        else:
            raise ModelError(f"the script has {len(self.answers)} answers, and this is call {turn + 1}")
        text, _ = cut_at_stop(answer, sampling.stop)
        kept = text.encode()[: 4 * sampling.max_tokens].decode(errors="ignore")
        usage = Usage(prompt_tokens=self.count_tokens(prompt), completion_tokens=self.count_tokens(kept))
        return Completion(text=kept, usage=usage, cost=0.0, finish_reason="stop" if kept == text else "length")
