"""Verbatim memorisation of training texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ragkit._breaks import character_start
from ragkit._text import UNSPACED, refuse_bare_string, spaced
from ragkit.errors import EmptyPoolError, InvalidInputError
from ragkit.models import load_model
from ragkit.protocols import LanguageModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Memorisation:
    """The extent to which a model reproduced texts.

    Attributes:
        longest: For each text, the number of words in the longest run after its opening that an output contains.
        words: For each text, the number of words after its opening.
        length: Minimum run length, in words, for a text to count as reproduced; shorter texts must be complete.
        outputs: Number of sampled outputs.
    """

    longest: tuple[int, ...]
    words: tuple[int, ...]
    length: int
    outputs: int

    @property
    def reproduced(self) -> tuple[int, ...]:
        """Indices of the texts that were reproduced."""
        pairs = enumerate(zip(self.longest, self.words, strict=True))
        return tuple(place for place, (run, words) in pairs if run >= min(self.length, words))

    @property
    def share(self) -> float:
        """Share of the texts that were reproduced, from 0 to 1."""
        return len(self.reproduced) / len(self.longest)


def memorisation(
    model: str | LanguageModel,
    texts: Sequence[str],
    *,
    opening: float = 0.5,
    length: int = 8,
    samples: int = 1,
    temperature: float = 0.0,
    max_tokens: int = 128,
    seed: int = 0,
) -> Memorisation:
    """Prompt a model with the openings of texts, and measure how much of the rest it reproduces.

    This is discoverable memorisation (Carlini et al., "Quantifying Memorization Across Neural Language Models", ICLR
    2023). Words are separated by whitespace; in scripts without spaces, each character is a word. All models reproduce
    common phrases, so compare the result with that of texts that the model was not trained on.

    Args:
        model: A model or its spec.
        texts: Training texts of at least two words.
        opening: Fraction of a text's words that the model receives as a prompt.
        length: Minimum run length, in words, for a text to count as reproduced.
        samples: Number of outputs per text; more than one requires a temperature above 0.
        temperature: Sampling temperature.
        max_tokens: Maximum number of tokens per output.
        seed: Seed of the first sample; later samples use consecutive seeds.

    Returns:
        The extent to which the texts were reproduced.

    Raises:
        EmptyPoolError: If there are no texts.
        InvalidInputError: If a text is too short or an argument is invalid.
    """
    refuse_bare_string("texts", texts)
    if not texts:
        raise EmptyPoolError("`texts` of memorisation")
    if not 0 < opening < 1:
        raise InvalidInputError(f"`opening` must be above 0 and below 1, got {opening}")
    if length < 1 or samples < 1:
        raise InvalidInputError(f"`length` and `samples` must be at least 1, got {length} and {samples}")
    if samples > 1 and temperature == 0:
        raise InvalidInputError("several samples at temperature 0 are all the same; give a `temperature`")
    halves = [_halves(text, opening, place) for place, text in enumerate(texts)]
    asked = load_model(model)
    outputs: list[str] = []
    for sample in range(samples):
        done = asked.generate(
            [prompt for prompt, _ in halves], max_tokens=max_tokens, temperature=temperature, seed=seed + sample
        )
        outputs += [completion.text for completion in done]
    rests = [spaced(rest).split() for _, rest in halves]
    longest = longest_runs(rests, [spaced(output).split() for output in outputs])
    return Memorisation(longest=tuple(longest), words=tuple(map(len, rests)), length=length, outputs=len(outputs))


def longest_runs(texts: Sequence[Sequence[str]], outputs: Sequence[Sequence[str]]) -> list[int]:
    """Return the length of the longest run of words of each text that one of the outputs contains."""
    longest = [0] * len(texts)
    remaining, length = list(range(len(texts))), 1
    while remaining:
        known = {run for output in outputs for run in _runs(output, length)}
        remaining = [place for place in remaining if not known.isdisjoint(_runs(texts[place], length))]
        for place in remaining:
            longest[place] = length
        length += 1
    return longest


def _runs(words: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[start : start + length]) for start in range(len(words) - length + 1))


def _halves(text: str, opening: float, place: int) -> tuple[str, str]:
    """Split a text into its opening, including the characters between words, and the rest."""
    words = list(re.finditer(rf"[{UNSPACED}]|[^\s{UNSPACED}]+", text))
    if len(words) < 2:
        raise InvalidInputError(f"`texts[{place}]` must have two words at least, got {text!r}")
    end = character_start(text, words[min(len(words) - 1, max(1, round(opening * len(words)))) - 1].end())
    return text[:end], text[end:]
