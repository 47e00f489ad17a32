"""Contract tests for every `LanguageModel`."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import numpy as np

from ragkit.errors import UnsupportedError
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Completion, Prompt
from ragkit.testing._refusing import assert_refused


class LanguageModelContract:
    """Contract tests for every `LanguageModel`; provide it as the fixture ``model``.

    Attributes:
        prompts: Prompts of different lengths that the model can answer, all different.
        max_tokens: Enough for an answer of a few tokens.
        tolerance: Maximum change of a score with the batch that it is computed in, in nats.
        writes_tokens: False for a model that answers without writing tokens, such as a classifier.
    """

    prompts: ClassVar[Sequence[AnyPrompt]] = (
        "Input: dim the lamp\nOutput: fade lamp\n\nInput: dim the fan\nOutput:",
        "one two three one two three one two",
        Prompt("Input: red\nOutput: rot\n\n", "Input: red\nOutput:"),
        "naïve café 東京 \U0001f600",
    )
    max_tokens: ClassVar[int] = 16
    tolerance: ClassVar[float] = 1e-3
    writes_tokens: ClassVar[bool] = True

    def test_fits_the_protocol(self, model: LanguageModel) -> None:
        """It has every member of `LanguageModel`."""
        assert isinstance(model, LanguageModel)
        assert model.name
        assert model.fingerprint
        window = model.capabilities.window
        assert window is None or window > 0

    def test_one_prompt_gives_one_completion(self, model: LanguageModel) -> None:
        """A single prompt returns one completion, and a sequence returns a list."""
        for prompt in self.prompts:
            alone = model.generate(prompt, max_tokens=self.max_tokens)
            listed = model.generate([prompt], max_tokens=self.max_tokens)
            assert isinstance(alone, Completion)
            assert isinstance(listed, list)
            assert _said(listed) == _said([alone])

    def test_no_prompts(self, model: LanguageModel) -> None:
        """An empty sequence returns an empty list."""
        assert model.generate([], max_tokens=self.max_tokens) == []

    def test_order_and_batch_do_not_matter(self, model: LanguageModel) -> None:
        """The answer to a prompt does not depend on its position or on the other prompts in the batch."""
        alone = [model.generate(prompt, max_tokens=self.max_tokens) for prompt in self.prompts]
        batch = model.generate(list(self.prompts), max_tokens=self.max_tokens)
        backwards = model.generate(list(reversed(self.prompts)), max_tokens=self.max_tokens)
        assert _said(batch) == _said(alone)
        assert _said(backwards[::-1]) == _said(alone)
        assert list(map(_tokens, batch)) == list(map(_tokens, alone))

    def test_agenerate_equals_generate(self, model: LanguageModel) -> None:
        """The async method returns the same, for one prompt and for several."""
        batch = asyncio.run(model.agenerate(list(self.prompts), max_tokens=self.max_tokens))
        assert _said(batch) == _said(model.generate(list(self.prompts), max_tokens=self.max_tokens))
        alone = asyncio.run(model.agenerate(self.prompts[0], max_tokens=self.max_tokens))
        assert _said([alone]) == _said(batch[:1])

    def test_stream_joins_to_generate(self, model: LanguageModel) -> None:
        """The parts of a stream join to the answer."""
        for prompt in self.prompts:
            pieces = list(model.stream(prompt, max_tokens=self.max_tokens))
            assert all(isinstance(piece, str) for piece in pieces)
            assert "".join(pieces) == model.generate(prompt, max_tokens=self.max_tokens).text

    def test_usage(self, model: LanguageModel) -> None:
        """Tokens are counted, and at most `max_tokens` are written."""
        for answer in model.generate(list(self.prompts), max_tokens=self.max_tokens):
            assert answer.usage.prompt_tokens > 0
            assert 0 <= answer.usage.cached_tokens <= answer.usage.prompt_tokens
            assert 0 <= answer.usage.completion_tokens <= self.max_tokens
            assert answer.usage.completion_tokens > 0 or not answer.text or not self.writes_tokens
            assert answer.seconds >= 0
            assert answer.cost is None or answer.cost >= 0

    def test_max_tokens(self, model: LanguageModel) -> None:
        """A shorter answer is the beginning of the longer one, and is marked as truncated."""
        for prompt in self.prompts:
            whole = model.generate(prompt, max_tokens=self.max_tokens)
            if whole.usage.completion_tokens < 2:
                continue
            most = whole.usage.completion_tokens - 1
            short = model.generate(prompt, max_tokens=most)
            assert short.usage.completion_tokens <= most
            assert short.finish_reason == "length"
            assert whole.text.startswith(short.text.rstrip("\ufffd"))
            assert len(short.text) <= len(whole.text)

    def test_stop(self, model: LanguageModel) -> None:
        """An answer ends before the first stop sequence."""
        for prompt in self.prompts:
            whole = model.generate(prompt, max_tokens=self.max_tokens).text
            for start in range(0, len(whole) - 1, 3):
                stop = whole[start : start + 2]
                if "\ufffd" in stop:
                    continue
                answer = model.generate(prompt, max_tokens=self.max_tokens, stop=["\x00 never \x00", stop])
                assert stop not in answer.text
                assert answer.text == whole[: whole.find(stop)]
                assert answer.finish_reason == "stop"

    def test_same_seed_same_answer(self, model: LanguageModel) -> None:
        """Sampling with the same seed gives the same answers, alone and in a batch, if the model supports seeds."""
        if not model.capabilities.seed:
            return
        prompts = list(self.prompts)
        first = model.generate(prompts, max_tokens=self.max_tokens, temperature=1.0, seed=3)
        again = [model.generate(prompt, max_tokens=self.max_tokens, temperature=1.0, seed=3) for prompt in prompts]
        assert _said(first) == _said(again)

    def test_bad_arguments(self, model: LanguageModel) -> None:
        """Invalid arguments are rejected before any work, whatever the prompt."""
        prompt = self.prompts[0]
        for most in (0, -1):
            assert_refused(partial(model.generate, prompt, max_tokens=most))
        for temperature in (-0.1, math.nan, math.inf):
            assert_refused(partial(model.generate, prompt, temperature=temperature))
        for stop in ("text", ("",), ("fine", "")):
            assert_refused(partial(model.generate, prompt, stop=stop))
        assert_refused(lambda: model.generate([prompt, None], max_tokens=1))  # type: ignore[list-item]

    def test_score(self, model: LanguageModel) -> None:
        """Scores are f64[n, c] log-likelihoods that do not depend on the batch; or `UnsupportedError` is raised."""
        prompts, choices = list(self.prompts), self.choices(model)
        if model.capabilities.logprobs:
            choices = ["a", "b"]  # only first tokens can be scored
        try:
            scores = model.score(prompts, choices)
        except UnsupportedError:
            assert not model.capabilities.score, "a model with `capabilities.score` must score"
            return
        supported = model.capabilities.score or model.capabilities.logprobs
        assert supported, "a model without `capabilities.score` must raise UnsupportedError"
        assert scores.shape == (len(prompts), len(choices))
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()
        assert np.all(scores <= 1e-9)
        assert model.score([], choices).shape == (0, len(choices))
        assert model.score(prompts, []).shape == (len(prompts), 0)
        alone = [[model.score([prompt], [choice])[0, 0] for choice in choices] for prompt in prompts]
        assert np.allclose(scores, alone, atol=self.tolerance)
        ended = model.score(prompts, choices, end_of_turn=True)
        assert ended.shape == scores.shape
        assert np.all(ended <= scores + self.tolerance), "an answer that ends there is a special case of the choice"
        assert_refused(lambda: model.score("abc", choices))
        assert_refused(lambda: model.score(prompts, "abc"))

    def test_count_tokens(self, model: LanguageModel) -> None:
        """An empty text has no tokens, and a longer text has at least as many as its beginning."""
        assert model.count_tokens("") == 0
        assert 0 < model.count_tokens("lamp") <= model.count_tokens("lamp lamp lamp lamp")

    def choices(self, model: LanguageModel) -> Sequence[str]:  # noqa: ARG002 - for subclasses
        """Return the continuations that `test_score` scores; override it if a model has a fixed set of answers.

        Args:
            model: The model under test.

        Returns:
            Continuations of different lengths.
        """
        return [" fade", " dim the lamp", " rot, rot", " 東京"]


def _tokens(answer: Completion) -> tuple[int, int]:
    return answer.usage.prompt_tokens, answer.usage.completion_tokens


def _said(answers: Sequence[Completion]) -> list[tuple[str, str]]:
    return [(answer.text, answer.finish_reason) for answer in answers]
