"""Majority votes over several answers that are sampled for the same prompt, and the probability of an answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from random import Random

from ragkit.answers import ReadAnswer
from ragkit.errors import InvalidInputError
from ragkit.models._provider_logprobs import tokens_within
from ragkit.records import Completion

_STEP = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Voting:
    """How many answers are sampled for each prompt; the most frequent one is the answer.

    Also known as self-consistency (Wang et al., "Self-Consistency Improves Chain of Thought Reasoning", ICLR 2023).

    Attributes:
        samples: Number of sampled answers; 1 for a single answer by greedy decoding.
        temperature: Sampling temperature of several answers.
        seed: Seed from which the seeds of the samples are drawn. More samples with the same seed begin with the same
            ones, so their cached responses are reused.

    Raises:
        InvalidInputError: If ``samples`` is below 1, or ``temperature`` is not above 0.
    """

    samples: int = 1
    temperature: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        if type(self.samples) is not int or self.samples < 1:
            raise InvalidInputError(f"`samples` must be a whole number of at least 1, got {self.samples!r}")
        if type(self.temperature) not in {int, float} or not 0 < self.temperature <= 10:
            raise InvalidInputError(
                f"`temperature` must be above 0 and at most 10, as samples at 0 are equal; got {self.temperature!r}"
            )

    def draws(self, *, seeded: bool) -> list[tuple[float, int]]:
        """Return the temperature and the seed of each sample.

        Caches and the joining of equal calls tell samples apart by these settings. For a model that accepts no seed,
        the temperatures therefore differ by a millionth.
        """
        if self.samples == 1:
            return [(0.0, 0)]
        if not seeded:
            step = _STEP if self.temperature < 1 else -_STEP  # servers accept 0 to 1, or 0 to 2
            return [(self.temperature + number * step, 0) for number in range(self.samples)]
        random = Random(f"samples {self.seed}")
        return [(self.temperature, random.getrandbits(31)) for _ in range(self.samples)]


def most_frequent(answers: Sequence[ReadAnswer]) -> tuple[int, float]:
    """Return the index of the first answer with the most frequent text, and the share of the answers that have it.

    Only readable answers vote, unless there are none. If several texts are equally frequent, the one that was sampled
    first wins.
    """
    voters = [index for index, answer in enumerate(answers) if answer.readable] or list(range(len(answers)))
    # Counter keeps the insertion order and most_common is stable.
    text, votes = Counter(answers[index].text for index in voters).most_common(1)[0]
    return next(index for index in voters if answers[index].text == text), votes / len(answers)


def probability_of(answer: str, completion: Completion, *, last: bool = False) -> float | None:
    """Return the probability of the tokens of an answer, given the tokens before them; None if it is not known.

    Args:
        answer: The answer that was read from the completion, which may differ from its words in case.
        completion: The completion.
        last: Whether the last occurrence of the answer counts, which follows the reasoning, and not the first.
    """
    folded = [(token.casefold(), value) for token, value in completion.logprobs]
    tokens = tokens_within(folded, answer.casefold(), last=last)
    return min(1.0, exp(sum(value for _, value in tokens))) if tokens else None
